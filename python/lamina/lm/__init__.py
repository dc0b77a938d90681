"""Language models: load, generate, train, quantize.

Continue a prompt with the model that ships with the package::

    from lamina.lm import demo_path, generate, load

    model, tokenizer = load(demo_path())
    print(generate(model, tokenizer, "def read_lines(path):", max_tokens=40))
"""

from lamina.lm.cache import KVCache
from lamina.lm.config import LlamaConfig, Quantization, load_config, parse_config
from lamina.lm.demo import demo_path
from lamina.lm.errors import CheckpointError, ConfigError, ContextError, DataError, LMError, PromptError
from lamina.lm.generate.stream import Piece, generate, stream_generate
from lamina.lm.io import convert, load, quantize, save
from lamina.lm.models import Llama, build_model
from lamina.lm.sample import make_sampler
from lamina.lm.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "CheckpointError",
    "ConfigError",
    "ContextError",
    "DataError",
    "KVCache",
    "LMError",
    "Llama",
    "LlamaConfig",
    "Piece",
    "PromptError",
    "Quantization",
    "Tokenizer",
    "build_model",
    "convert",
    "demo_path",
    "generate",
    "load",
    "load_config",
    "load_tokenizer",
    "make_sampler",
    "parse_config",
    "quantize",
    "save",
    "stream_generate",
]
