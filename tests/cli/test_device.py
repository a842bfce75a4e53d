"""`--device`: where networks run, tried on a device that is pretended on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import deepalign_cli as da
from deepalign_cli.errors import UsageError
from tests.cli.test_dreams import FEW
from tests.dreams.networks import images, saved_pair
from tests.operations.making import deepalign, tensors
from tests.pretended import pretended

THERE = ("--device", "cuda")


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path]:
    return saved_pair(tmp_path)


@pytest.fixture(autouse=True)
def _one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the processor alone do dreams convolve in bfloat16."""
    monkeypatch.setattr("deepalign_cli.dreams.statistics.multiplies_halves", lambda: False)


def _timeless(told: Any) -> Any:
    """The same without what a clock or a path said."""
    if isinstance(told, dict):
        gone = {"seconds", "output", "outputs"}
        return {key: _timeless(value) for key, value in told.items() if key not in gone}
    return [_timeless(value) for value in told] if isinstance(told, list) else told


def _data(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    path = folder / "data.npz"
    np.savez(path, x_test=images(40).numpy(), y_test=rng.integers(0, 5, 40))
    return path


@pytest.mark.parametrize(
    ("command", "ran"),
    [
        (("align", "--refine", "none"), "linear"),  # the aligner reads
        (("align", *FEW), "conv2d"),
        (("align", "-m", "activations", *FEW), "conv2d"),
        (("align", "-m", "sinkhorn", "--steps", "2", "--start", "scratch", *FEW), "conv2d"),
        (("merge", "-m", "weights", "--repair", "dream", *FEW), "batch_norm"),
        (("merge", "-m", "weights", "--combine", "fisher", *FEW), "conv2d"),
        (("merge", "-m", "weights", "--combine", "regmean", *FEW), "conv2d"),
        (("barrier", "-m", "activations", "--repair", "--points", "3", *FEW), "conv2d"),
        (("barrier", "-m", "dual", "--points", "3", "--data", "DATA"), "conv2d"),
        (("landscape", "-m", "weights", "--points", "3", "--data", "DATA"), "conv2d"),
    ],
    ids=lambda value: " ".join(value[:5]) if isinstance(value, tuple) else "",
)
def test_networks_run_there_and_all_is_as_on_the_processor(
    command: tuple[str, ...],
    ran: str,
    ends: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    name, *options = command
    options = [str(_data(tmp_path)) if option == "DATA" else option for option in options]
    options += ["--normalise", "none"] if "--data" in options else []
    suffix = ".png" if name == "landscape" else ".safetensors"
    written = {place: tmp_path / f"{place}{suffix}" for place in ("here", "there")}
    outs = {place: () if name == "barrier" else ("-o", path) for place, path in written.items()}
    here = deepalign(name, *ends, *options, *outs["here"], "--json")
    with pretended() as device:
        there = deepalign(name, *ends, *options, *THERE, *outs["there"], "--json")

    assert (here.code, there.code, there.err) == (0, 0, "")
    assert device.ran[ran]
    assert _timeless(there.json) == _timeless(here.json)
    if name in ("align", "merge"):
        a, b = (tensors(path) for path in written.values())
        assert all(torch.equal(a[n], b[n]) for n in a)


def test_dreams_are_the_same_there(ends: tuple[Path, Path], tmp_path: Path) -> None:
    common = ("align", *ends, "-m", "activations", *FEW)
    for place, how in (("here", ()), ("there", THERE)):
        with pretended():
            saved = ("--save-dreams", tmp_path / f"{place}.npz", "-o", tmp_path / f"{place}.safetensors")
            assert deepalign(*common, *how, *saved).code == 0
    a, b = (np.load(tmp_path / f"{place}.npz")["inputs"] for place in ("here", "there"))
    np.testing.assert_array_equal(a, b)


def test_in_python_too() -> None:
    a, b = (nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 5)) for _ in range(2))
    data = (images(40), torch.arange(40) % 5)
    here = da.align(a, b, method="activations", data=data)
    with pretended() as device:
        there = da.align(a, b, method="activations", data=data, device="cuda")

    assert device.ran["linear"]
    assert all(torch.equal(there.element.perm[g], p) for g, p in here.element.perm.items())
    with pytest.raises(UsageError, match="PyTorch finds no device 'cuda' here"):
        da.align(a, b, device="cuda")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["align", "--device", "cuda"], "PyTorch finds no device 'cuda' here"),
        (["merge", "--device", "mps"], "PyTorch finds no device 'mps' here"),
        (["barrier", "--data", "dream", "--device", "cuda:3"], "PyTorch finds no device 'cuda:3' here"),
        (["align", "--device", "tpu"], "there is no device 'tpu'"),
        (["align", "-m", "weights", "--device", "cpu"], "--device has no effect"),
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(
    options: list[str],
    sentence: str,
    ends: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    command, *rest = options
    before = set(tmp_path.iterdir())
    out = () if command == "barrier" else ("-o", tmp_path / "o.safetensors")
    done = deepalign(command, *ends, *rest, *out)

    assert done.code == 2
    assert sentence in done.err
    assert set(tmp_path.iterdir()) == before
