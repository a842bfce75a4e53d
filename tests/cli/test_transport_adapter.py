"""A LoRA adapter that is carried to another base: exactly, where that is the first one moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deepalign_cli.operations.transport_adapter import exact_factors
from tests import nets
from tests.cli.subjects import refused
from tests.cli.test_adapters import FACTORS, adapter, changes
from tests.operations.making import deepalign, generic, listing, metadata, planted, save, tensors
from tests.symmetry.builders import seeded


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, the same in disorder, an adapter, and the base with it merged in, in the same disorder."""
    state = generic(nets.named_mlp, 0).state_dict()
    sizes = {n: tuple(state[f"{n}.weight"].shape) for n in ("fc1", "fc2")}
    save(state, tmp_path / "a.pt")
    adapter(tmp_path / "lora", 0, rank=2, alpha=3, modules=sizes)
    changed = changes(tmp_path / "lora")
    added = {f"{module}.weight": change.float() for module, change in changed.items()}
    tuned = {n: w + added.get(n, torch.zeros(())) for n, w in state.items()}
    save(tuned, tmp_path / "tuned.pt")
    for name in ("a", "tuned"):
        planted(tmp_path / f"{name}.pt", tmp_path / f"{name}-moved.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def both(folder: Path, name: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / name)
    return found


@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_what_it_changes_moves_with_the_units(folder: Path, scale: float) -> None:
    use = ["transport", "a.pt", "lora", "a-moved.pt", "-m", "weights", "--scale", str(scale), "--json"]
    done = deepalign(*use)
    assert done.code == 0, done.err
    assert (done.json["output"], done.json["scale"]) == ("lora-carried", scale)
    assert done.json["files"] == [FACTORS, "adapter_config.json"]
    base, tuned = both(folder, "a-moved.pt"), both(folder, "tuned-moved.pt")
    for module, change in changes(folder / "lora-carried").items():
        wanted = scale * (tuned[f"{module}.weight"] - base[f"{module}.weight"]).double()
        assert torch.allclose(change, wanted, atol=1e-5), module
    config = json.loads((folder / "lora-carried" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 2)
    assert config["base_model_name_or_path"] == "a-moved.pt"  # and no longer base A, which it does not fit
    told = metadata(folder / "lora-carried" / FACTORS)
    assert (told["deepalign.command"], told["deepalign.input.2"]) == ("transport", "lora")


@pytest.mark.parametrize(("outputs", "inputs", "rank"), [(30, 20, 3), (5, 40, 5), (6, 4, 9)])
def test_factors_of_a_matrix_of_that_rank_are_exact(outputs: int, inputs: int, rank: int) -> None:
    rng = seeded(0)
    matrix = (
        torch.randn(outputs, rank, generator=rng).double() @ torch.randn(rank, inputs, generator=rng).double()
    )
    b, a = exact_factors(matrix, rank)
    assert (b.shape, a.shape) == ((outputs, rank), (rank, inputs))
    assert torch.allclose(b @ a, matrix, atol=1e-11)


def test_an_adapter_of_another_network_is_refused(folder: Path) -> None:
    adapter(folder / "wide", 1, modules={"fc1": (3, 3)})
    adapter(folder / "other", 1)
    state = tensors(folder / "lora" / FACTORS) | {"base_model.model.fc1.bias": torch.ones(16)}
    adapter(folder / "biased", 1)
    save(state, folder / "biased" / FACTORS)
    before = listing(folder)
    for name, code, message in (
        ("wide", 3, "has not the sizes"),
        ("other", 3, "has no 'layers.0.q_proj.weight'"),
        ("biased", 3, "is no factor of an adapter"),
    ):
        refused(deepalign("transport", "a.pt", name, "a-moved.pt", "-m", "none"), code, message)
    refused(
        deepalign("transport", "a.pt", "lora", "a-moved.pt", "--dry-run"), 2, "does not read LoRA adapters"
    )
    refused(deepalign("transport", "a.pt", "lora", "a-moved.pt", "-o", "x.safetensors"), 2, "would be a file")
    assert listing(folder) == before
