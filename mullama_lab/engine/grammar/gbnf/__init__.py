"""GBNF: read as llama.cpp reads it, written so that llama.cpp can, and what may be wrong in it."""
