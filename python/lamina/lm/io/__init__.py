"""Models on disk: load, save, quantize, convert.

A model is a directory with ``config.json``, one or more ``*.safetensors`` files and a tokenizer, or a GGUF
file. Files are written under a temporary name and renamed, so that an interrupted save leaves the old files
whole.
"""

from lamina.lm.io.checkpoint import Blocks, Checkpoint
from lamina.lm.io.convert import convert, quantize
from lamina.lm.io.files import check_safetensors, load_tensors, load_weights, replacing
from lamina.lm.io.fit import fit_weights, quantize_modules
from lamina.lm.io.load import load, read_checkpoint
from lamina.lm.io.save import save

__all__ = [
    "Blocks",
    "Checkpoint",
    "check_safetensors",
    "convert",
    "fit_weights",
    "load",
    "load_tensors",
    "load_weights",
    "quantize",
    "quantize_modules",
    "read_checkpoint",
    "replacing",
    "save",
]
