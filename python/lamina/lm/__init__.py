"""Language models: load, generate, train, quantize.

Continue a prompt with the model that ships with the package::

    from lamina.lm import demo_path, generate, load

    model, tokenizer = load(demo_path())
    print(generate(model, tokenizer, "def read_lines(path):", max_tokens=40))
"""

from lamina.lm.arithmetic import set_arithmetic
from lamina.lm.cache import CacheOptions, KVCache, PromptCache
from lamina.lm.cache.files import load_prompt_cache, save_prompt_cache
from lamina.lm.chat import Conversation
from lamina.lm.config import LlamaConfig, ModelConfig, Quantization, load_config, parse_config
from lamina.lm.constrain import Grammar
from lamina.lm.demo import demo_path
from lamina.lm.embed import Embedder, load_embedder
from lamina.lm.engine import Completion, Engine, EngineOptions, Request, batch_generate
from lamina.lm.errors import (
    CacheError,
    CapacityError,
    CheckpointError,
    ConfigError,
    ConstraintError,
    ContextError,
    DataError,
    LMError,
    PromptError,
)
from lamina.lm.generate.speculative import DraftModel, PromptLookup
from lamina.lm.generate.stream import Piece, generate, stream_generate
from lamina.lm.io import convert, load, quantize, save
from lamina.lm.models import Decoder, Llama, build_model
from lamina.lm.sample import Sampling, make_sampler
from lamina.lm.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "CacheError",
    "CacheOptions",
    "CapacityError",
    "CheckpointError",
    "Completion",
    "ConfigError",
    "ConstraintError",
    "ContextError",
    "Conversation",
    "DataError",
    "Decoder",
    "DraftModel",
    "Embedder",
    "Engine",
    "EngineOptions",
    "Grammar",
    "KVCache",
    "LMError",
    "Llama",
    "LlamaConfig",
    "ModelConfig",
    "Piece",
    "PromptCache",
    "PromptError",
    "PromptLookup",
    "Quantization",
    "Request",
    "Sampling",
    "Tokenizer",
    "batch_generate",
    "build_model",
    "convert",
    "demo_path",
    "generate",
    "load",
    "load_config",
    "load_embedder",
    "load_prompt_cache",
    "load_tokenizer",
    "make_sampler",
    "parse_config",
    "quantize",
    "save",
    "save_prompt_cache",
    "set_arithmetic",
    "stream_generate",
]
