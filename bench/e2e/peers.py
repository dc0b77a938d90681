"""What runs a model: each peer loads one file and then prefills, decodes and gives logits.

A peer is used by one process of its own (:mod:`bench.e2e.worker`), so that its threads are no one else's.
"""

from __future__ import annotations

import ctypes
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Peer(Protocol):
    """A loaded model."""

    version: str

    def prefill(self, ids: Sequence[int]) -> float:
        """Seconds from a prompt to the logits of its last position."""
        ...

    def decode(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Seconds for ``tokens`` greedy tokens of each prompt, together, after the prompts are prefilled."""
        ...

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits (L, V) of every position, float32."""
        ...


class Lamina:
    """lamina, as its command line runs it."""

    def __init__(self, path: Path, threads: int, arithmetic: Any) -> None:
        import lamina
        import lamina.core as mx
        from lamina.lm.arithmetic import set_arithmetic
        from lamina.lm.io.load import model_of, read_checkpoint
        from lamina.lm.tokenizer import Tokenizer
        from tokenizers import Tokenizer as HFTokenizer
        from tokenizers import models

        self.version = lamina.__version__
        self._mx = mx
        self.model = model_of(read_checkpoint(path))
        if arithmetic == "dequantized":
            self._dequantize()
        else:
            set_arithmetic(self.model, arithmetic)
        mx.eval(self.model.parameters())
        words = {f"t{i}": i for i in range(self.model.config.vocab_size)}
        self.tokenizer = Tokenizer(HFTokenizer(models.WordLevel(words, "t0")))

    def _dequantize(self) -> None:
        """Put layers of the same weights in float32 in the place of packed ones."""
        import lamina.nn as nn
        from lamina.lm.quantization.formats import parse_format
        from lamina.lm.quantization.layers import layer_in
        from lamina.utils import tree_map

        packed = (nn.QuantizedLinear, nn.QuantizedEmbedding)
        wide = parse_format("float32")
        self.model.update_modules(
            tree_map(
                lambda m: layer_in(m, wide) if isinstance(m, packed) else m,
                self.model.leaf_modules(),
                is_leaf=nn.Module.is_module,
            )
        )

    def _stream(self, ids: Sequence[int], tokens: int) -> Any:
        from lamina.lm import stream_generate

        return stream_generate(self.model, self.tokenizer, list(ids), tokens)

    def prefill(self, ids: Sequence[int]) -> float:
        """Until the first token is there."""
        begin = time.perf_counter()
        next(self._stream(ids, 1))
        return time.perf_counter() - begin

    def decode(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """One text by the generator; several by the engine."""
        if len(prompts) > 1:
            return self._decode_together(prompts, tokens)
        pieces = self._stream(prompts[0], tokens + 1)
        next(pieces)
        begin = time.perf_counter()
        for _ in pieces:
            pass
        return time.perf_counter() - begin

    def _decode_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        from lamina.lm.engine import Engine, EngineOptions, Request

        engine = Engine(self.model, self.tokenizer, EngineOptions(max_sequences=len(prompts)))
        handles = [engine.submit(Request(list(p), tokens + 1)) for p in prompts]
        while not all(h.generated_tokens for h in handles):
            engine.step()
        before = sum(h.generated_tokens for h in handles)
        begin = time.perf_counter()
        while not engine.idle:
            engine.step()
        seconds = time.perf_counter() - begin
        done = sum(h.generated_tokens for h in handles) - before
        return seconds * tokens * len(prompts) / done

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """By one call of the model."""
        mx = self._mx
        return np.asarray(self.model(mx.array([list(ids)]))[0].astype(mx.float32))


class LlamaCpp:
    """llama.cpp through the C interface of llama-cpp-python."""

    CONTEXT = 2048

    def __init__(self, path: Path, threads: int, arithmetic: str) -> None:
        llama_cpp = importlib.import_module("llama_cpp")
        self._c = c = llama_cpp.llama_cpp
        self.version = llama_cpp.__version__
        # Kept, or the library would call what is gone.
        self._quiet = c.llama_log_callback(lambda level, text, data: None)
        c.llama_log_set(self._quiet, None)
        c.llama_backend_init()
        self._model = c.llama_model_load_from_file(str(path).encode(), c.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        p = c.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max = self.CONTEXT * 8, 512, 512, 8
        p.n_threads = p.n_threads_batch = threads
        p.kv_unified = True
        self._context = c.llama_init_from_model(self._model, p)
        self._vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self._model))
        self._batch = c.llama_batch_init(512, 0, 1)

    def _run(self, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        """Rows of token, position, sequence and whether its logits are wanted."""
        b = self._batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i] = token, position, 1
            b.seq_id[i][0], b.logits[i] = sequence, wanted
        status = self._c.llama_decode(self._context, b)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")

    def _row(self, index: int) -> np.ndarray:
        pointer = self._c.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (self._vocab,))

    def _clear(self) -> None:
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)

    def _fill(self, ids: Sequence[int], sequence: int) -> int:
        """The likeliest token after a prompt."""
        for start in range(0, len(ids), 512):
            rows = list(enumerate(ids[start : start + 512], start))
            self._run([(t, i, sequence, i == len(ids) - 1) for i, t in rows])
        return int(self._row((len(ids) - 1) % 512).argmax())

    def prefill(self, ids: Sequence[int]) -> float:
        """Until the first token is chosen."""
        self._clear()
        begin = time.perf_counter()
        self._fill(ids, 0)
        return time.perf_counter() - begin

    def decode(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Greedy steps of all sequences in one batch."""
        self._clear()
        current = [self._fill(ids, s) for s, ids in enumerate(prompts)]
        begin = time.perf_counter()
        for n in range(tokens):
            self._run([(t, len(prompts[s]) + n, s, True) for s, t in enumerate(current)])
            current = [int(self._row(s).argmax()) for s in range(len(prompts))]
        return time.perf_counter() - begin

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """All positions at once."""
        self._clear()
        self._run([(t, i, 0, True) for i, t in enumerate(ids)])
        return np.stack([self._row(i).copy() for i in range(len(ids))])


class Mlx:
    """The MLX wheel under mlx-lm."""

    def __init__(self, path: Path, threads: int, arithmetic: str) -> None:
        self._mx = importlib.import_module("mlx.core")
        self.version = self._mx.__version__
        self._lm = importlib.import_module("mlx_lm.generate")
        self.model = importlib.import_module("mlx_lm.utils").load_model(path)[0]

    def _tokens(self, ids: Sequence[int], tokens: int) -> Any:
        return self._lm.generate_step(self._mx.array(list(ids)), self.model, max_tokens=tokens)

    def prefill(self, ids: Sequence[int]) -> float:
        """Until the first token is there."""
        begin = time.perf_counter()
        next(self._tokens(ids, 1))
        return time.perf_counter() - begin

    def decode(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """One text."""
        steps = self._tokens(prompts[0], tokens + 1)
        next(steps)
        begin = time.perf_counter()
        for _ in steps:
            pass
        return time.perf_counter() - begin

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """By one call of the model."""
        mx = self._mx
        return np.array(self.model(mx.array([list(ids)]))[0].astype(mx.float32))


NEEDS = {"lamina": ("lamina",), "llama.cpp": ("llama_cpp", "gguf"), "mlx": ("mlx", "mlx_lm")}
"""The modules of a peer and of the files that it reads."""

PEERS: dict[str, Any] = {"lamina": Lamina, "llama.cpp": LlamaCpp, "mlx": Mlx}
