"""The layers; ``lamina.nn`` exports their names."""
