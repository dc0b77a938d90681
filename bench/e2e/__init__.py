"""Language models from end to end: lamina beside llama.cpp and the MLX wheel, on models of random weights."""
