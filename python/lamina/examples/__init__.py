"""Training real models on real data, one file each, to read as tutorials and to run.

=============== ==================================================================================
``mlp``         a multilayer perceptron on digits, in bfloat16 with float32 master weights
``conv``        a convolutional network on digits
``vae``         a variational autoencoder on digits, and a picture of digits that it makes up
``lstm``        a long short-term memory that writes text, character by character
``transformer`` a transformer that does, with gradient accumulation and checkpointing
=============== ==================================================================================

Run one as ``python -m lamina.examples.conv``; ``--help`` lists its options. Importing them runs nothing.
"""
