"""A GGUF file before llama.cpp reads it: its header, and what would take the process down."""
