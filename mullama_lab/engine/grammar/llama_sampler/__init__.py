"""llama.cpp's own grammar sampler at work, in a process of its own."""
