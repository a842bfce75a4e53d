from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import DeepalignError, MismatchError, MissingExtra, SpecError, UsageError
from deepalign_cli.models.hugging_face import ignored_names, load_folder, renamed
from deepalign_cli.models.lookup import network_for
from deepalign_cli.models.module import ModuleRun, run_module
from tests.models.builders import generic
from tests.symmetry.builders import seeded

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 50, "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def folder(path: Path, config: dict[str, Any]) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    return path


def run_of(path: Path, weights: dict[str, Tensor]) -> ModuleRun:
    model = load_folder(path)
    shapes = {n: tuple(w.shape) for n, w in weights.items()}
    return run_module(model, shapes, unused=ignored_names(model), called=renamed(model))


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_runs_with_the_weights_that_are_given(tmp_path: Path, tied: bool) -> None:
    path = folder(tmp_path, {**LLAMA, "tie_word_embeddings": tied})
    module = load_folder(path).double()
    draw = seeded(1)
    weights = {n: w + 0.1 * torch.randn(w.shape, generator=draw) for n, w in module.state_dict().items()}
    if tied:
        del weights["lm_head.weight"]  # as transformers writes it
    module.load_state_dict(weights, strict=False)
    tokens = torch.randint(50, (3, 6))
    with torch.no_grad():
        found, expected = run_of(path, weights)(weights, tokens), module(tokens).logits
    assert expected.shape == (3, 6, 50)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_without_an_architecture_it_is_the_bare_model(tmp_path: Path) -> None:
    path = folder(tmp_path, {k: v for k, v in LLAMA.items() if k != "architectures"})
    module = load_folder(path)
    assert type(module).__name__ == "LlamaModel"
    weights = {n: w.clone() for n, w in module.state_dict().items()}
    assert run_of(path, weights)(weights, torch.randint(50, (2, 3))).shape == (2, 3, 16)


@pytest.mark.slow
def test_a_model_in_training_mode_is_never_made(tmp_path: Path) -> None:
    assert not load_folder(folder(tmp_path, LLAMA)).training


def test_another_networks_config_is_told(tmp_path: Path) -> None:
    _, weights = generic(load_folder(folder(tmp_path, LLAMA)))
    folder(tmp_path, {**LLAMA, "intermediate_size": 20})
    with pytest.raises(
        MismatchError, match=r"gate_proj.weight' \(\(20, 16\) in the model, \(24, 16\) in the"
    ):
        run_of(tmp_path, weights)


def test_old_buffers_that_transformers_leaves_out_are_left_out(tmp_path: Path) -> None:
    model = load_folder(folder(tmp_path, LLAMA))
    model._keys_to_ignore_on_load_unexpected = {r"rotary_emb\.old"}
    assert ignored_names(model)("layers.0.rotary_emb.old")
    assert not ignored_names(model)("layers.0.weight")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "no_such_model"}, "no_such_model"),
        ({**LLAMA, "num_attention_heads": "four"}, "cannot build"),
        ({}, "cannot build"),
    ],
)
def test_what_transformers_does_not_know(tmp_path: Path, config: dict[str, Any], named: str) -> None:
    with pytest.raises(SpecError, match=named) as caught:
        load_folder(folder(tmp_path, config))
    assert "\n" not in caught.value.message


def test_code_in_the_folder_is_never_run(tmp_path: Path) -> None:
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Net"}}
    (tmp_path / "own.py").write_text("raise SystemExit('it was run')\n")
    with pytest.raises(SpecError, match="cannot build"):
        load_folder(folder(tmp_path, {**config, "architectures": ["Net"]}))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DeepalignError, match="cannot build"):
        load_folder(tmp_path)


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_folder(tmp_path)


def test_without_transformers_the_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra) as caught:
        load_folder(folder(tmp_path, LLAMA))
    assert caught.value.hint == "pip install 'deepalign[models]'"


def test_a_vision_transformer_runs_by_the_names_in_its_file(tmp_path: Path) -> None:
    sizes = {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 16,
        "image_size": 8, "patch_size": 4, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 24,
    }  # fmt: skip
    path = folder(tmp_path, sizes)
    module = load_folder(path).double()
    module.save_pretrained(tmp_path / "saved")  # type: ignore[operator]
    weights = load_file(tmp_path / "saved" / "model.safetensors")
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=seeded(2))
    with torch.no_grad():
        found, expected = run_of(path, weights)(weights, x), module(x).logits
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_is_run_from_its_folder(tmp_path: Path, tied: bool) -> None:
    path = folder(tmp_path, {**LLAMA, "tie_word_embeddings": tied})
    module = load_folder(path)
    module.save_pretrained(path)  # type: ignore[operator]
    checkpoint = open_checkpoint(path)
    tokens = torch.randint(50, (3, 6), generator=seeded(2))
    with torch.no_grad():
        found = network_for(checkpoint, str(path)).run(dict(checkpoint), tokens)
        assert torch.allclose(found, module(tokens).logits, atol=1e-6)
