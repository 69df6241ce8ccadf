"""llama.cpp as objects; numpy in, numpy out."""
