"""What the demo model is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from lamina.lm.config import LlamaConfig, Quantization
from lamina.lm.train.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """Sizes and settings of one build.

    Attributes
    ----------
    vocab_size, width, layers, heads, kv_heads, hidden, context : int
        The model; all widths are multiples of the quantization group.
    train : TrainConfig
        The training run.
    group_size, bits : int
        Quantization of the shipped weights.
    max_documents : int
        Use this many training documents only, evenly spread; 0 for all.
    prompt : str
        The model card shows what the model makes of this.
    """

    vocab_size: int = 4096
    width: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 704
    context: int = 512
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=3000,
            batch=8,
            length=512,
            lr=3e-3,
            min_lr=1.5e-4,
            warmup=100,
            # The text is seen about four times: a strong decay is what keeps the held-out loss falling.
            weight_decay=1.0,
            seed=1,
            validate_every=250,
            checkpoint_every=100,
            validate_chars=0,
        )
    )
    group_size: int = 64
    bits: int = 4
    max_documents: int = 0
    prompt: str = "def read_lines(path):"

    def model_config(self, separator: int) -> LlamaConfig:
        """Return the model's configuration; ``separator`` begins and ends every text."""
        return LlamaConfig(
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.hidden,
            vocab_size=self.vocab_size,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=separator,
            eos_token_id=(separator,),
        )

    def quantization(self) -> Quantization:
        """Return how the shipped weights are quantized."""
        return Quantization(self.group_size, self.bits)
