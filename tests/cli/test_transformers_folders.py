"""Folders of transformers: aligned with no option, loaded by `from_pretrained`, the same function."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from deepalign_cli.models.dummy_inputs import dummy_inputs
from deepalign_cli.tracing.wide import Wide
from tests.operations.making import deepalign

transformers: Any = pytest.importorskip("transformers")

ENDS = {"bos_token_id": 1, "eos_token_id": 2}
TEXT = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 64,
}  # fmt: skip
WHISPER = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "num_mel_bins": 10,
    "max_source_positions": 8, "max_target_positions": 12, "pad_token_id": 0, "vocab_size": 99,
    "decoder_start_token_id": 1, "suppress_tokens": [], "begin_suppress_tokens": [], **ENDS,
}  # fmt: skip
IMAGE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
CLIP = {"text_config": {**TEXT, **ENDS}, "vision_config": IMAGE, "projection_dim": 16}
CLASSES = {
    "BertForSequenceClassification": ("BertConfig", TEXT),
    "LlamaForCausalLM": ("LlamaConfig", {**TEXT, "num_key_value_heads": 2}),
    "ViTForImageClassification": ("ViTConfig", IMAGE),
    "WhisperForConditionalGeneration": ("WhisperConfig", WHISPER),
    "CLIPModel": ("CLIPConfig", CLIP),
}
FEW = ("BertForSequenceClassification", "LlamaForCausalLM")


def saved(name: str, seed: int, folder: Path) -> Path:
    config, values = CLASSES[name]
    torch.manual_seed(seed)
    model = getattr(transformers, name)(getattr(transformers, config)(**values))
    with torch.no_grad():
        for w in model.state_dict().values():
            if w.is_floating_point():
                w.add_(0.1 * torch.rand(w.shape))
    model.save_pretrained(folder / f"{name}-{seed}")
    return folder / f"{name}-{seed}"


def outputs(model: Any, example: Any) -> torch.Tensor:
    with torch.no_grad():
        out = model(**example.kwargs)
    return out.get("logits", out.get("logits_per_image"))


@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in CLASSES]
)
def test_a_folder_is_aligned_with_no_option(name: str, tmp_path: Path) -> None:
    a, b = (saved(name, seed, tmp_path) for seed in (0, 1))
    done = deepalign("align", a, b, "-m", "weights", "-o", f"{tmp_path / 'c'}/", "--json")
    assert done.code == 0, done.err
    assert done.json["basis"] == "traced and checked"
    assert sum(row["moved"] for row in done.json["groups"].values()) > 0
    cls = getattr(transformers, name)
    before, after = (cls.from_pretrained(folder).eval() for folder in (b, tmp_path / "c"))
    example = dummy_inputs(before)
    dummy_inputs(after)
    x, y = outputs(before, example), outputs(after, example)
    assert torch.allclose(x, y, rtol=1e-4, atol=1e-4 * float(x.abs().max()))
    example = example.mapped(lambda t: t.double() if t.is_floating_point() else t)
    with Wide():
        x, y = outputs(before.double(), example), outputs(after.double(), example)
    assert float((x - y).abs().max()) <= 1e-10 * float(x.abs().max())
    moved = [n for n, w in before.state_dict().items() if not torch.equal(w, after.state_dict()[n])]
    assert len(moved) > 4
    assert json.loads((tmp_path / "c" / "config.json").read_text())["model_type"]


def test_by_default_heads_and_streams_of_networks_that_are_far_apart_turn(tmp_path: Path) -> None:
    a, b = (saved("LlamaForCausalLM", seed, tmp_path) for seed in (0, 1))
    done = deepalign("align", a, b, "--no-dream", "-o", f"{tmp_path / 'c'}/", "--json")
    assert done.code == 0, done.err
    assert done.json["method"] == "rotations"
    assert any("aligned by -m rotations" in note for note in done.json["notes"])
    before, after = (transformers.LlamaForCausalLM.from_pretrained(f).eval() for f in (b, tmp_path / "c"))
    example = dummy_inputs(before)
    x, y = outputs(before, example), outputs(after, example)
    assert torch.allclose(x, y, rtol=1e-4, atol=1e-4 * float(x.abs().max()))
    named = deepalign("align", a, b, "--refine", "prior", "-o", f"{tmp_path / 'd'}/", "--json")
    assert named.json["method"] == "deepalign"


def test_the_second_time_the_trace_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepalign_cli.operations import trace

    a = saved("BertForSequenceClassification", 0, tmp_path)
    first = deepalign("inspect", a, "--json").json
    monkeypatch.setattr(trace, "open_module", None)  # no network is built
    assert deepalign("inspect", a, "--json").json == first
    assert first["basis"] == "traced and checked"


@pytest.mark.parametrize("method", ["deepalign", "rotations"])
def test_without_transformers_heads_and_streams_turn_by_a_template(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (saved("LlamaForCausalLM", seed, tmp_path) for seed in (0, 1))
    before = transformers.AutoModelForCausalLM.from_pretrained(b, dtype=torch.float64).eval()
    with monkeypatch.context() as hidden:
        _hide_transformers(hidden)
        done = deepalign("align", a, b, "-m", method, "-o", f"{tmp_path / 'c'}/", "--json")
    assert done.code == 0, done.err
    assert (done.json["method"], done.json["basis"]) == ("rotations", "template")
    assert any("what may move is from the template llama" in note for note in done.json["notes"])
    groups = done.json["groups"]
    assert groups["stream"]["moved"] == groups["stream"]["size"] == 32
    after = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "c", dtype=torch.float64).eval()
    tokens = torch.arange(20).reshape(2, 10)
    with torch.no_grad(), Wide():
        x, y = (model(tokens).logits for model in (before, after))
    assert float((x - y).abs().max()) <= 1e-5 * float(x.abs().max())  # the file is in single precision


def _hide_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepalign_cli.operations import trace

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(trace, "version", version)
    monkeypatch.setitem(sys.modules, "transformers", None)


def test_without_transformers_it_is_said_that_the_network_was_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = saved("BertForSequenceClassification", 0, tmp_path)
    _hide_transformers(monkeypatch)
    done = deepalign("inspect", a, "--json")
    assert done.code == 0, done.err
    assert done.json["basis"] == "template"
    assert any("'transformers', which is not installed" in note for note in done.json["notes"])


def test_a_folder_that_is_too_large_to_be_traced_is_left_to_its_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepalign_cli.operations import asked

    folder = saved("LlamaForCausalLM", 3, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "initializer_range": 0.03}))  # not traced yet
    count = sum(
        w.numel() for w in transformers.LlamaForCausalLM.from_pretrained(folder).state_dict().values()
    )
    monkeypatch.setattr(asked, "_MOST_TRACED", count - 1)
    told = deepalign("align", folder, folder, "-m", "weights", "-o", f"{tmp_path / 'c'}/", "--json").json
    assert told["basis"] == "template"
    assert any("million numbers takes" in note for note in told["notes"]), told["notes"]
    monkeypatch.setattr(asked, "_MOST_TRACED", count)
    told = deepalign("inspect", folder, "--json").json
    assert told["basis"] == "traced and checked"
    monkeypatch.setattr(asked, "_MOST_TRACED", count - 1)  # the trace is in the cache
    assert deepalign("inspect", folder, "--json").json["basis"] == "traced and checked"


@pytest.mark.parametrize("method", ["none", "rotations"])
def test_folders_of_other_heads_are_refused_and_nothing_is_written(tmp_path: Path, method: str) -> None:
    a, b = (saved("LlamaForCausalLM", seed, tmp_path) for seed in (0, 1))
    config = json.loads((b / "config.json").read_text())
    (b / "config.json").write_text(json.dumps({**config, "num_attention_heads": 8}))
    out = tmp_path / "out"
    done = deepalign("merge", a, b, "-m", method, "-o", f"{out}/")
    assert done.code == 3
    assert f"num_attention_heads is 4 in the config.json of '{a}' but 8 in that of '{b}'" in done.err
    assert "Traceback" not in done.err
    assert not out.exists()
    done = deepalign("merge", a, a, "-m", method, "--heads", 8, "-o", f"{out}/")
    assert (done.code, out.exists()) == (2, False)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_is_one_sentence_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    from safetensors.torch import load_file, save_file

    a, b = (saved("LlamaForCausalLM", seed, tmp_path) for seed in (0, 1))
    weights = load_file(b / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    weights[name][1, 2] = value
    save_file(weights, b / "model.safetensors", {"format": "pt"})
    done = deepalign("merge", a, b, "-m", "rotations", "--no-dream", "-o", f"{tmp_path / 'out'}/")
    assert done.code == 3
    assert f"'{name}' in '{b}' holds NaN or Inf" in done.err
    assert not (tmp_path / "out").exists()
