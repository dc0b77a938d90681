"""Model configurations, read from a Hugging Face style ``config.json``.

A configuration is a frozen dataclass. Fields that change what a model computes are either understood or
refused by name: a checkpoint is never run with a feature silently left out.
"""

from lamina.lm.config.families import model_types
from lamina.lm.config.fields import Fields
from lamina.lm.config.llama import LlamaConfig
from lamina.lm.config.model import Config, ModelConfig, load_config, parse_config
from lamina.lm.config.quantization import HFQuantization, Quantization
from lamina.lm.config.rotary import RopeScaling, RotaryConfig
from lamina.lm.config.spec import (
    AttentionConfig,
    ClampedSwiGLU,
    DecoderConfig,
    EmbeddingConfig,
    HeadConfig,
    LayerConfig,
    Mamba2Config,
    MambaConfig,
    MLAConfig,
    MLPConfig,
    MoEConfig,
    NormConfig,
    Norms,
    RecurrentConfig,
    RouterConfig,
)

__all__ = [
    "AttentionConfig",
    "ClampedSwiGLU",
    "Config",
    "DecoderConfig",
    "EmbeddingConfig",
    "Fields",
    "HFQuantization",
    "HeadConfig",
    "LayerConfig",
    "LlamaConfig",
    "MLAConfig",
    "MLPConfig",
    "Mamba2Config",
    "MambaConfig",
    "MoEConfig",
    "ModelConfig",
    "NormConfig",
    "Norms",
    "Quantization",
    "RecurrentConfig",
    "RopeScaling",
    "RotaryConfig",
    "RouterConfig",
    "load_config",
    "model_types",
    "parse_config",
]
