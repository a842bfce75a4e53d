"""Dreams in the place of data, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.dreams.networks import DESIGN, saved_pair
from tests.operations.making import deepalign, metadata, tensors

FEW = ("--dream", "12", "--dream-steps", "2")


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path]:
    return saved_pair(tmp_path)


def test_networks_with_batchnorm_dream_by_themselves(ends: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    done = deepalign("align", *ends, "-o", out, "--json")

    told = "inputs were dreamed: 64 of 1x8x8 of what BatchNorm remembers, in 80 steps"
    assert any(note.startswith(told) for note in done.json["notes"])
    assert "on dreams" in done.json["why"]
    moved, x = tensors(out), torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(DESIGN(moved, x), DESIGN(tensors(ends[1]), x))
    again = deepalign("align", *ends, "-o", tmp_path / "p.safetensors", "--json")
    assert again.json["groups"] == done.json["groups"]


def test_they_do_not_where_that_is_not_wanted(ends: tuple[Path, Path], tmp_path: Path) -> None:
    done = deepalign("align", *ends, "-o", tmp_path / "o.safetensors", "--no-dream", "--json")

    assert not any("dream" in note for note in done.json["notes"])


@pytest.mark.parametrize(
    ("method", "how"),
    [("activations", ()), ("dual", ()), ("sinkhorn", ("--steps", "2")),
     ("deepalign", ("--refine", "ste", "--steps", "2"))],
)  # fmt: skip
def test_whatever_looks_at_data_looks_at_dreams(
    method: str, how: tuple[str, ...], ends: tuple[Path, Path], tmp_path: Path
) -> None:
    done = deepalign("align", *ends, "-m", method, *FEW, *how, "-o", tmp_path / "o.safetensors", "--json")

    assert done.json["method"] == method


def test_the_barrier_on_dreams_is_how_far_the_path_is_from_the_parents(ends: tuple[Path, Path]) -> None:
    told = deepalign("barrier", *ends, *FEW, "--points", "3", "--json").json

    assert told["loss"] == "divergence from the parents"
    assert told["data"] == ["dream, 12 examples"]
    assert all(0 < loss < 1 for path in told["paths"] for loss in path["loss"])


def test_a_merge_is_repaired_on_dreams(ends: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    done = deepalign("merge", *ends, "-m", "weights", "--repair", "dream", *FEW, "-o", out, "--json")

    assert any("2 BatchNorm layers were re-estimated" in note for note in done.json["notes"])
    assert "dream" in metadata(out)["deepalign.repair"]
    plain = tmp_path / "p.safetensors"
    deepalign("merge", *ends, "-m", "weights", "-o", plain)
    same = [name for name, w in tensors(out).items() if w.equal(tensors(plain)[name])]
    assert {name for name in tensors(out) if name not in same} >= {"bn1.running_var", "bn2.running_mean"}


def test_what_was_dreamed_is_kept_to_look_at(ends: tuple[Path, Path], tmp_path: Path) -> None:
    kept = tmp_path / "d.npz"
    deepalign("align", *ends, *FEW, "--save-dreams", kept, "-o", tmp_path / "o.safetensors")

    assert np.load(kept)["inputs"].shape == (12, 1, 8, 8)
    assert (tmp_path / "d.png").read_bytes()[:4] == b"\x89PNG"
    data = ("-m", "activations", "--data", kept)
    assert deepalign("align", *ends, *data, "-o", tmp_path / "q.safetensors", "--json").json["unread"] == []


@pytest.mark.parametrize(
    ("options", "sentence", "code"),
    [
        (["--data", "dream", "--grey"], "--grey has no effect on dreams", 2),
        (["--no-dream", "--dream", "5"], "--no-dream and --dream exclude each other", 2),
        (["-m", "weights", "--no-dream"], "--no-dream has no effect", 2),
        (["-m", "weights", "--dream", "5"], "makes no use of --data", 2),
        (["--save-dreams", "x.txt"], "would be an .npz file", 2),
        (["--save-dreams", "a.safetensors"], "would be an .npz file", 2),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    options: list[str], sentence: str, code: int, ends: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "o.safetensors"
    done = deepalign("align", *ends, *options, "-o", out)

    assert done.code == code
    assert sentence in done.err
    assert not out.exists()


def test_dreams_do_not_take_the_place_of_what_is_there(ends: tuple[Path, Path], tmp_path: Path) -> None:
    kept = tmp_path / "d.npz"
    kept.write_bytes(b"mine")
    done = deepalign("align", *ends, *FEW, "--save-dreams", kept, "-o", tmp_path / "o.safetensors")

    assert done.code == 2
    assert "exists" in done.err
    assert kept.read_bytes() == b"mine"


def test_an_interrupted_dream_leaves_nothing(
    ends: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deepalign_cli.dreams.dream.dream_of_statistics", interrupted)
    before = set(tmp_path.iterdir())
    options = ("--save-dreams", tmp_path / "d.npz", "-o", tmp_path / "o.safetensors")

    assert deepalign("align", *ends, *FEW, *options).code == 130
    assert set(tmp_path.iterdir()) == before


def test_a_shape_that_nobody_can_know_is_asked_for(tmp_path: Path) -> None:
    factory = tmp_path / "net.py"
    factory.write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n"
        "    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]\n"
        "    return nn.Sequential(*layers, nn.Linear(44, 3))\n"
    )
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten()]
    a, b = (tmp_path / f"{name}.pt" for name in "ab")
    for path in (a, b):
        torch.save(torch.nn.Sequential(*layers, torch.nn.Linear(44, 3)).state_dict(), path)
    model = ("--model", f"{factory}:make", "-o", tmp_path / "o.safetensors")

    lost = deepalign("align", a, b, *model)
    assert lost.code == 2
    assert "--input-shape 3x32x32" in lost.err
    assert deepalign("align", a, b, *model, "--input-shape", "1x13x3").code == 0
