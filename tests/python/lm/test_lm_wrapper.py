"""Models that also see: their text part gives the logits that it gives alone, and images are refused."""

from __future__ import annotations

import json
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from lamina.cli import main
from lamina.lm import ConfigError, PromptError, Tokenizer, convert, load, stream_generate
from lamina.lm.chat import ChatTemplate
from lamina.lm.config import parse_config
from lamina.lm.config.wrapper import wrapper_types
from lm.lm_golden import golden

CASE = golden("gemma3_text")
WHOLE = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "boi_token_index": 61,
    "eoi_token_index": 62,
    "image_token_index": 63,
    "mm_tokens_per_image": 4,
    "eos_token_id": [1, 7],
    "text_config": CASE.config,
    "vision_config": {"hidden_size": 16, "num_hidden_layers": 1},
    "transformers_version": "5.24.0",
}
VISION = ("vision_tower.embeddings.patch_embedding.weight", "multi_modal_projector.mm_soft_emb_norm.weight")


def write(path: Path, tokenizer: Tokenizer, config: dict, body: str, vision: str) -> Path:
    """Write a model with a text part and parts that see."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    weights = {name.replace("model.", body, 1): value for name, value in CASE.weights().items()}
    weights |= {vision + name: mx.ones((4, 4)) for name in VISION}
    mx.save_safetensors(str(path / "model.safetensors"), weights)
    tokenizer.save(path / "tokenizer.json")
    return path


@pytest.mark.parametrize(
    ("body", "vision"), [("language_model.model.", ""), ("model.language_model.", "model.")]
)
def test_the_text_part_gives_its_logits(words, tmp_path, body, vision):
    model, tokenizer = load(write(tmp_path / "whole", words, WHOLE, body, vision))
    got = np.concatenate([np.array(model(mx.array([s]))[0]) for s in CASE.sequences])
    assert np.abs(got - CASE.logits).max() <= CASE.tolerance()
    assert tokenizer.eos_ids == {1, 7}
    assert model.config.model_type == "gemma3_text"


def test_it_is_converted_and_still_refuses_images(words, tmp_path):
    source = write(tmp_path / "whole", words, WHOLE, "language_model.model.", "")
    convert(source, tmp_path / "text")
    for path in (source, tmp_path / "text"):
        model, tokenizer = load(path)
        assert len(list(stream_generate(model, tokenizer, [5, 9], 2))) <= 2
        for token in (61, 62, 63):
            with pytest.raises(
                PromptError, match=f"token {token}, which stands for an image: images are not"
            ):
                list(stream_generate(model, tokenizer, [5, token, 9], 2))
    saved = json.loads((tmp_path / "text" / "config.json").read_text())
    assert saved["model_type"] == "gemma3_text"
    assert "vision_config" not in saved


def test_messages_with_images_are_refused():
    template = ChatTemplate("{{ messages[0].content }}")
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image", "url": "a.png"}]
    with pytest.raises(PromptError, match="message 0 has a part of type 'image': models take text only"):
        template.render([{"role": "user", "content": parts}])
    assert "what is" in template.render([{"role": "user", "content": parts[:1]}])


def test_fields_that_files_leave_out_have_their_defaults():
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024}  # fmt: skip
    spec = parse_config({**WHOLE, "text_config": text}).spec
    assert (spec.vocab, spec.width, len(spec.layers), spec.context) == (262208, 2560, 34, 131072)
    assert (spec.layers[0].mixer.heads, spec.layers[0].mixer.kv_heads) == (8, 4)
    assert [layer.mixer.window for layer in spec.layers[:6]] == [1024] * 5 + [None]


def test_packings_are_found_under_their_own_names():
    own = {"language_model.model.layers.0.mlp.up_proj": {"group_size": 32, "bits": 8}}
    config = parse_config({**WHOLE, "quantization": {"group_size": 64, "bits": 4, **own}})
    assert config.quantization.for_module("model.layers.0.mlp.up_proj")["bits"] == 8


def test_what_is_not_understood_is_named():
    with pytest.raises(ConfigError, match="not understood for model type 'gemma3': audio_config"):
        parse_config({**WHOLE, "audio_config": {"a": 1}})
    parse_config({**WHOLE, "audio_config": {"a": 1}}, ignore=("audio_config",))
    with pytest.raises(ConfigError, match="'text_config' must describe a gemma3_text model, got None"):
        parse_config({k: v for k, v in WHOLE.items() if k != "text_config"})
    with pytest.raises(ConfigError, match="not understood for model type 'gemma3_text': new_switch"):
        parse_config({**WHOLE, "text_config": {**CASE.config, "new_switch": True}})


def test_they_are_listed(capsys, words, tmp_path):
    assert main(["models", "--json"]) == 0
    kinds = {row["model_type"]: row["kind"] for row in json.loads(capsys.readouterr().out)}
    assert all(kinds[name] == "decoder" for name in wrapper_types())
    path = write(tmp_path / "whole", words, WHOLE, "language_model.model.", "")
    assert main(["models", str(path)]) == 0
    assert "model_type: gemma3_text" in capsys.readouterr().out
