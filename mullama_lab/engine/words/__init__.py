"""Words: how they are spelled, and which tokens of a model write them."""
