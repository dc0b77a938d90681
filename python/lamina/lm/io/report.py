"""What a conversion did: sizes, bits for a weight, and how far the model is from its source."""

from __future__ import annotations

import collections
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from lamina.lm.evaluate import Comparison
from lamina.lm.quantization.calibrate import packable
from lamina.lm.quantization.layers import columns_of, rows_of, stored_format
from lamina.utils import tree_flatten


@dataclass(frozen=True)
class Size:
    """How large a model's weights are.

    Attributes
    ----------
    weights : int
        Numbers, whatever they are stored as.
    size_bytes : int
        Memory for them, scales included.
    formats : Mapping[str, int]
        Matrices by the name of their format.
    """

    weights: int
    size_bytes: int
    formats: dict[str, int] = field(default_factory=dict)

    @property
    def bits_per_weight(self) -> float:
        """Bits of memory for a weight."""
        return 8 * self.size_bytes / self.weights


def size_of(model: Any) -> Size:
    """Return how large a model's weights are; nothing is computed."""
    modules = packable(model)
    matrices = sum(rows_of(m) * columns_of(m) for m in modules.values())
    parts = ("weight", "scales", "biases", "order", "block_scales")
    inside = {f"{path}.{part}" for path in modules for part in parts}
    arrays = dict(tree_flatten(model.parameters()))
    others = sum(a.size for name, a in arrays.items() if name not in inside)
    formats = collections.Counter(str(stored_format(m)) for m in modules.values())
    return Size(matrices + others, sum(a.nbytes for a in arrays.values()), dict(formats.most_common()))


@dataclass(frozen=True)
class Report:
    """What :func:`lamina.lm.convert` did.

    Attributes
    ----------
    source, target : Size
        The weights before and after.
    kind : str
        The format of the source's files.
    comparison : Comparison, optional
        The target beside the source on the given text.
    """

    source: Size
    target: Size
    kind: str
    comparison: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as what JSON can hold."""

        def size(s: Size) -> dict[str, Any]:
            return {**dataclasses.asdict(s), "bits_per_weight": s.bits_per_weight}

        out: dict[str, Any] = {"kind": self.kind, "source": size(self.source), "target": size(self.target)}
        if self.comparison is not None:
            c = self.comparison
            out["quality"] = {
                "tokens": c.score.tokens,
                "perplexity": c.score.perplexity,
                "source_perplexity": c.reference.perplexity,
                "kl": c.kl,
                "kl_99": c.kl_99,
                "kl_max": c.kl_max,
                "same_top": c.same_top,
            }
        return out

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        rows = []
        for name, s in (("source", self.source), ("target", self.target)):
            formats = ", ".join(f"{count} x {kind}" for kind, count in s.formats.items())
            rows.append(
                f"{name}: {s.size_bytes / 1e6:.2f} MB, {s.bits_per_weight:.3f} bits per weight ({formats})"
            )
        if self.comparison is not None:
            c = self.comparison
            rows += [
                f"perplexity: {c.score.perplexity:.4f}, source {c.reference.perplexity:.4f} "
                f"({c.score.tokens} tokens)",
                f"KL from the source: {c.kl:.6f} nats (99 %: {c.kl_99:.5f}, most: {c.kl_max:.4f}); "
                f"same likeliest token: {100 * c.same_top:.2f} %",
            ]
        return rows
