"""A text on its way through a grammar, seen from inside: where it stands, and what may follow."""
