"""The training step against NumPy, exact resuming, evaluation, and what can go wrong."""

from __future__ import annotations

import dataclasses
import json
import math

import lamina.core as mx
import lamina.nn as nn
import numpy as np
import pytest
from lamina.lm import CheckpointError, DataError, LlamaConfig, build_model
from lamina.lm.demo.recipe import Recipe
from lamina.lm.evaluate import sliding_windows
from lamina.lm.io import fit_weights
from lamina.lm.train import DivergenceError, TrainConfig, Trainer, bits_per_byte, encode_documents
from lamina.lm.train.checkpoint import list_checkpoints
from lamina.lm.train.evaluate import total_bits
from lamina.lm.train.step import clip_gradients, init_weights, loss_fn, make_optimizer, make_step
from lamina.utils import tree_flatten, tree_unflatten
from lm.llama_reference import forward, random_weights
from lm.lm_helpers import TEXTS

EPS = float(np.finfo(np.float32).eps)
SMALL = LlamaConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=64,
    vocab_size=320,
    max_position_embeddings=32,
    tie_word_embeddings=True,
)
RUN = TrainConfig(
    steps=10, batch=3, length=16, lr=1e-2, min_lr=1e-3, warmup=3, checkpoint_every=4, validate_every=5, seed=3
)


def flat(tree) -> dict[str, np.ndarray]:
    return {k: np.array(v) for k, v in tree_flatten(tree)}


def windows(seed: int, batch: int = 3) -> mx.array:
    return mx.array(np.random.default_rng(seed).integers(0, SMALL.vocab_size, (batch, 17)).astype(np.int32))


def log_probs(logits: np.ndarray) -> np.ndarray:
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


class TestStep:
    def test_the_loss(self):
        weights = random_weights(SMALL, 0)
        model = build_model(SMALL)
        fit_weights(model, {k: mx.array(v) for k, v in weights.items()})
        ids = np.array(windows(0))
        logits, _ = forward(SMALL, weights, ids[:, :-1])
        wanted = -np.take_along_axis(log_probs(logits), ids[:, 1:, None], -1).mean()
        assert loss_fn(model, windows(0)).item() == pytest.approx(wanted, rel=64 * EPS)

    def test_initial_weights(self):
        model = build_model(SMALL)
        init_weights(model, 5)
        first = flat(model.parameters())
        init_weights(model, 5)
        for name, value in flat(model.parameters()).items():
            np.testing.assert_array_equal(value, first[name])
            if value.ndim > 1:
                wanted = 0.02 / (2 if "o_proj" in name or "down_proj" in name else 1)
                # The deviation of a sample deviation of n normals is 1 / sqrt(2 n); five of them.
                assert value.std() == pytest.approx(wanted, rel=5 / math.sqrt(2 * value.size))
                assert abs(value.mean()) < 5 * wanted / math.sqrt(value.size)
            else:
                assert (value == 1).all()
        assert len({v[:4, :4].tobytes() for v in first.values() if v.ndim > 1}) == sum(
            v.ndim > 1 for v in first.values()
        )
        init_weights(model, 6)
        assert not np.array_equal(
            flat(model.parameters())["model.embed_tokens.weight"], first["model.embed_tokens.weight"]
        )

    @pytest.mark.parametrize("compiled", [False, True])
    def test_updates_are_adamw(self, compiled):
        config = dataclasses.replace(RUN, clip=0.7, weight_decay=0.3, compile=compiled)
        model = build_model(SMALL)
        init_weights(model, 0)
        optimizer = make_optimizer(model, config)
        step = make_step(model, optimizer, config)
        grad = nn.value_and_grad(model, loss_fn)
        wanted = {k: v.astype(np.float64) for k, v in flat(model.parameters()).items()}
        m = {k: np.zeros_like(v) for k, v in wanted.items()}
        v2 = {k: np.zeros_like(v) for k, v in wanted.items()}
        for t in range(1, 4):
            lr = 0.01 * t
            _, g = grad(model, windows(t))
            g = {k: v.astype(np.float64) for k, v in flat(g).items()}
            norm = math.sqrt(sum((v * v).sum() for v in g.values()))
            _, got_norm = step([windows(t)], lr)
            assert got_norm.item() == pytest.approx(norm, rel=64 * EPS)
            assert norm > config.clip
            for k, p in wanted.items():
                gk = g[k] * config.clip / norm
                m[k] = config.beta1 * m[k] + (1 - config.beta1) * gk
                v2[k] = config.beta2 * v2[k] + (1 - config.beta2) * gk * gk
                if p.ndim > 1:
                    p = p * (1 - lr * config.weight_decay)
                hat_m, hat_v = m[k] / (1 - config.beta1**t), v2[k] / (1 - config.beta2**t)
                wanted[k] = p - lr * hat_m / (np.sqrt(hat_v) + config.eps)
            got = flat(model.parameters())
            for k, p in wanted.items():
                # Each step moves a weight by about lr; its direction is a quotient with a few roundings,
                # and where the gradient nearly cancels it is known to about eps over the 1e-6 that clipping
                # adds to the norm.
                assert np.abs(got[k] - p).max() <= lr * 1e-3 + 8 * EPS * np.abs(p).max()
            model.update(tree_unflatten([(k, mx.array(p.astype(np.float32))) for k, p in wanted.items()]))

    def test_norm_weights_do_not_decay(self):
        config = dataclasses.replace(RUN, weight_decay=10.0, compile=False)
        model = build_model(SMALL)
        init_weights(model, 0)
        before = flat(model.parameters())
        make_step(model, make_optimizer(model, config), config)([windows(0)], 1e-3)
        after = flat(model.parameters())
        assert np.abs(after["model.norm.weight"] - 1).max() <= 1.01e-3
        name = "model.layers.0.mlp.up_proj.weight"
        assert np.linalg.norm(after[name]) < 0.9999 * np.linalg.norm(before[name]) + 1e-3 * math.sqrt(
            before[name].size
        )

    def test_clipping(self):
        grads = {"a": mx.array([3.0, 0.0]), "b": {"c": mx.array([[4.0]])}}
        clipped, norm = clip_gradients(grads, 1.0)
        assert norm.item() == 5
        np.testing.assert_allclose(np.array(clipped["a"]), [0.6, 0], rtol=1e-6)
        assert clip_gradients(grads, 10.0)[0]["b"]["c"].item() == 4
        assert clip_gradients(grads, 0.0)[0] is grads

    def test_accumulation_equals_one_large_batch(self):
        results = []
        for parts in (1, 3):
            config = dataclasses.replace(RUN, accumulate=parts)
            model = build_model(SMALL)
            init_weights(model, 0)
            step = make_step(model, make_optimizer(model, config), config)
            whole = windows(0, 6)
            batches = [whole] if parts == 1 else [whole[i : i + 2] for i in (0, 2, 4)]
            loss, norm = step(batches, 1e-2)
            results.append((loss.item(), norm.item()))
        np.testing.assert_allclose(results[0], results[1], rtol=64 * EPS)


def trainer(tokenizer, directory, config=RUN, model_config=SMALL, texts=TEXTS) -> Trainer:
    ids = encode_documents(tokenizer, texts, 0)
    return Trainer(build_model(model_config), tokenizer, ids, config, directory, [TEXTS[0]], 0, quiet=True)


class TestRuns:
    @pytest.mark.parametrize("change", [{}, {"accumulate": 2}, {"compile": False}], ids=str)
    def test_a_resumed_run_equals_an_unbroken_one(self, tokenizer, tmp_path, change):
        config = dataclasses.replace(RUN, **change)
        whole = trainer(tokenizer, tmp_path / "whole", config)
        wanted = whole.run().state
        # One stop falls between checkpoints' regular steps and between validations, one on a checkpoint.
        for stop in (3, 8):
            trainer(tokenizer, tmp_path / "parts", config).run(resume=True, stop_after=stop)
        last = trainer(tokenizer, tmp_path / "parts", config)
        got = last.run(resume=True).state
        assert got.history.losses == wanted.history.losses
        assert len(wanted.history.losses) == 10
        assert got.history.validations == wanted.history.validations
        assert len(wanted.history.validations) == 2
        assert got.cursor == wanted.cursor
        for name, value in flat(whole.model.parameters()).items():
            np.testing.assert_array_equal(flat(last.model.parameters())[name], value)

    def test_one_seed_one_run(self, tokenizer, tmp_path):
        first = trainer(tokenizer, tmp_path / "a").run().state.history.losses
        assert trainer(tokenizer, tmp_path / "b").run().state.history.losses == first
        other = dataclasses.replace(RUN, seed=4)
        assert trainer(tokenizer, tmp_path / "c", other).run().state.history.losses != first

    def test_two_hundred_steps(self, tokenizer, tmp_path):
        """Wide and long enough for threads to share the work: twice, and stopped in the middle."""
        config = dataclasses.replace(
            RUN, steps=200, batch=4, length=128, checkpoint_every=100, validate_every=200
        )
        model = dataclasses.replace(
            SMALL, hidden_size=128, intermediate_size=256, max_position_embeddings=128, num_attention_heads=4
        )
        texts = TEXTS * 20

        def losses(name: str, **stop) -> list[float]:
            run = trainer(tokenizer, tmp_path / name, config, model, texts)
            return run.run(**stop).state.history.losses

        first = losses("first")
        assert len(first) == 200
        assert losses("second") == first
        losses("parts", stop_after=100)
        assert losses("parts", resume=True) == first

    def test_compiled_and_plain_agree(self, tokenizer, tmp_path):
        compiled = trainer(tokenizer, tmp_path / "a").run().state.history.losses
        plain = (
            trainer(tokenizer, tmp_path / "b", dataclasses.replace(RUN, compile=False))
            .run()
            .state.history.losses
        )
        assert compiled == plain, "not the same bits"

    def test_the_demo_models_architecture_plans_once(self, monkeypatch):
        """Losses and weights bit for bit those of the plain step; one trace, one plan."""
        config = dataclasses.replace(
            Recipe().model_config(0), hidden_size=64, intermediate_size=176, vocab_size=320, head_dim=16
        )
        compiled = []

        def compile_and_keep(*args, compile_=mx.compile, **kwargs):
            compiled.append(compile_(*args, **kwargs))
            return compiled[-1]

        monkeypatch.setattr(mx, "compile", compile_and_keep)

        def trained(run):
            model = build_model(config)
            optimizer = make_optimizer(model, run)
            init_weights(model, 3)
            mx.eval(model.parameters(), optimizer.state)
            step = make_step(model, optimizer, run)
            rng, out = np.random.default_rng(0), []
            for i in range(run.steps):
                ids = mx.array(rng.integers(0, config.vocab_size, (2, 25)).astype(np.int32))
                loss, norm = step([ids], run.learning_rate(i))
                mx.eval(loss, norm, model.parameters(), optimizer.state)
                out.append((loss.item(), norm.item()))
            return out, flat(model.parameters())

        run = TrainConfig(steps=6, warmup=2, weight_decay=0.1, clip=1.0)
        plain, plain_weights = trained(dataclasses.replace(run, compile=False))
        assert compiled == []
        losses, weights = trained(run)
        assert losses == plain
        assert {k: w.tobytes() for k, w in weights.items()} == {
            k: w.tobytes() for k, w in plain_weights.items()
        }
        (trace,) = mx.explain(compiled[0]).traces
        assert trace["why"] == ["first call"]
        assert (trace["calls"], trace["evaluations"], trace["plans"]) == (run.steps, run.steps, 1)

    def test_the_loss_falls(self, tokenizer, tmp_path):
        config = dataclasses.replace(RUN, steps=40, batch=4, lr=1e-2)
        losses = trainer(tokenizer, tmp_path, config).run().state.history.losses
        assert abs(losses[0] - math.log(SMALL.vocab_size)) < 0.2
        assert np.mean(losses[-5:]) < losses[0] - 1

    def test_what_a_run_leaves(self, tokenizer, tmp_path):
        config = dataclasses.replace(RUN, log_every=4)
        state = trainer(tokenizer, tmp_path, config).run().state
        assert [p.name for p in list_checkpoints(tmp_path)] == [
            "checkpoint-00000008.safetensors",
            "checkpoint-00000010.safetensors",
        ]
        assert not [p for p in tmp_path.iterdir() if ".tmp-" in p.name]
        lines = (tmp_path / "train.log").read_text().splitlines()
        steps = [line.split("step ")[1].split("/")[0] for line in lines if " loss " in line]
        assert steps == ["4", "8", "10"]
        assert sum("held-out bits per byte" in line for line in lines) == 2
        curve = json.loads((tmp_path / "curve.json").read_text())
        assert curve["loss_nats_per_token"] == state.history.losses
        assert [v["step"] for v in curve["held_out_bits_per_byte"]] == [5, 10]
        assert curve["tokens_per_step"] == 48

    def test_a_directory_in_use_is_refused(self, tokenizer, tmp_path):
        trainer(tokenizer, tmp_path).run(stop_after=2)
        with pytest.raises(
            CheckpointError,
            match=r"holds checkpoint-00000002\.safetensors: resume that run or choose another",
        ):
            trainer(tokenizer, tmp_path).run()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"config": dataclasses.replace(RUN, lr=2e-2)}, "lr: 0.01 there, 0.02 here"),
            ({"model_config": dataclasses.replace(SMALL, rope_theta=5.0)}, "model: .* there"),
            ({"texts": TEXTS[:2]}, "data: .* there"),
        ],
        ids=["settings", "model", "text"],
    )
    def test_another_runs_checkpoint_is_refused(self, tokenizer, tmp_path, change, message):
        trainer(tokenizer, tmp_path).run(stop_after=2)
        with pytest.raises(
            CheckpointError, match="belongs to another run, so it cannot be resumed: " + message
        ):
            trainer(tokenizer, tmp_path, **change).run(resume=True)

    def test_broken_checkpoints(self, tokenizer, tmp_path):
        trainer(tokenizer, tmp_path).run(stop_after=2)
        file = list_checkpoints(tmp_path)[0]
        whole = file.read_bytes()
        file.write_bytes(whole[:-7])
        with pytest.raises(CheckpointError, match="truncated or corrupt"):
            trainer(tokenizer, tmp_path).run(resume=True)
        mx.save_safetensors(str(file), {"a": mx.ones(2)})
        with pytest.raises(CheckpointError, match="is not a training checkpoint"):
            trainer(tokenizer, tmp_path).run(resume=True)
        arrays, meta = None, None
        file.write_bytes(whole)
        arrays, meta = mx.load(str(file), return_metadata=True)
        arrays["model.model.norm.weight"] = mx.ones(3)
        mx.save_safetensors(str(file), arrays, meta)
        with pytest.raises(
            CheckpointError, match=r"'model\.model\.norm\.weight' wants \(32,\) .* the file has \(3,\)"
        ):
            trainer(tokenizer, tmp_path).run(resume=True)

    def test_divergence_is_an_error_and_the_checkpoint_is_from_before(self, tokenizer, tmp_path):
        run = trainer(
            tokenizer, tmp_path, dataclasses.replace(RUN, lr=1e30, clip=0.0, warmup=0, checkpoint_every=1)
        )
        with pytest.raises(
            DivergenceError,
            match=r"the loss is .* the last checkpoint is of step \d+: lower the learning rate",
        ):
            run.run()
        arrays, _ = mx.load(str(list_checkpoints(tmp_path)[-1]), return_metadata=True)
        assert "model.model.norm.weight" in arrays

    def test_text_too_short(self, tokenizer, tmp_path):
        with pytest.raises(DataError, match="too short"):
            trainer(tokenizer, tmp_path, texts=["ab"])


class TestBits:
    def reference_bits(self, weights, ids, stride) -> float:
        bits = 0.0
        for start, stop, first in sliding_windows(len(ids), SMALL.max_position_embeddings, stride):
            logits, _ = forward(SMALL, weights, ids[None, start:stop])
            rows = np.arange(first, stop + 1)
            bits -= log_probs(logits)[0][rows - start - 1, ids[rows]].sum() / math.log(2)
        return bits

    @pytest.mark.parametrize(
        ("count", "stride", "batch"), [(100, 16, 8), (100, 16, 1), (20, 16, 8), (97, 5, 4), (65, 32, 8)]
    )
    def test_total_bits_equal_the_reference(self, count, stride, batch):
        weights = random_weights(SMALL, 1)
        model = build_model(SMALL)
        fit_weights(model, {k: mx.array(v) for k, v in weights.items()})
        ids = np.random.default_rng(0).integers(0, SMALL.vocab_size, count)
        scored = []
        got = total_bits(model, ids, stride, batch, scored.append)
        # A log-probability errs by a few roundings of its largest logit (about 6 here).
        assert got == pytest.approx(self.reference_bits(weights, ids, stride), abs=count * 64 * EPS)
        assert sum(scored) == count - 1

    def test_a_model_that_knows_nothing_needs_log2_v_bits_per_token(self, tokenizer):
        model = build_model(SMALL)
        model.update(tree_unflatten([(k, mx.zeros_like(v)) for k, v in tree_flatten(model.parameters())]))
        ids = np.concatenate(encode_documents(tokenizer, TEXTS, 0))
        size = sum(len(t.encode()) for t in TEXTS)
        wanted = (len(ids) - 1) * math.log2(SMALL.vocab_size) / size
        assert bits_per_byte(model, tokenizer, TEXTS, 0) == pytest.approx(wanted, rel=16 * EPS)
        with pytest.raises(DataError, match="no text to evaluate on"):
            bits_per_byte(model, tokenizer, [""], 0)
