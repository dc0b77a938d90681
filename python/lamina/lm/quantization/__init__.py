"""Quantization of models: formats of matrices, and recipes that choose one for each layer."""

from lamina.lm.quantization.formats import Format, parse_format
from lamina.lm.quantization.recipe import Recipe

__all__ = ["Format", "Recipe", "parse_format"]
