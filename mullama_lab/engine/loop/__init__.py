"""The one loop that generates tokens, and what feeds it, watches it and branches off it."""
