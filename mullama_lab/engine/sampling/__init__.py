"""How a token is chosen from a row of logits: stages, chains, and what they do to a row."""
