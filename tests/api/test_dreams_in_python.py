"""Dreams from Python: modules with BatchNorm dream by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deepalign_cli as da
from deepalign_cli.errors import UsageError
from tests import nets
from tests.dreams.networks import images

FEW = {"dream": 12, "dream_steps": 2}


def _module(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12, momentum=None), nn.ReLU(), nn.Conv2d(12, 10, 3),
        nn.BatchNorm2d(10, momentum=None), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 4),
    )  # fmt: skip
    module(images())
    return module.eval()


def test_modules_with_batchnorm_dream_by_themselves() -> None:
    a, b = _module(0), _module(1)
    alignment = da.align(a, b)

    assert any("of what BatchNorm remembers, in 80 steps" in note for note in alignment.notes)
    x = images(5)
    expected = b(x)
    b.load_state_dict(alignment.apply(b.state_dict()))
    torch.testing.assert_close(b(x), expected)
    assert not any("dreamed" in note for note in da.align(a, b, no_dream=True).notes)


def test_whatever_takes_data_takes_dreams(tmp_path: Path) -> None:
    a, b = _module(0), _module(1)
    seen = da.align(a, b, method="activations", data="dream", save_dreams=tmp_path / "d.npz", **FEW)
    curve = da.barrier(a, b, data="dream", points=3, input_shape="1x8x8", **FEW)
    merged = da.merge([a, b], repair="dream", method="weights", **FEW)

    assert seen.method == "activations"
    assert len(np.load(tmp_path / "d.npz")["inputs"]) == 12
    assert curve.report.loss == "divergence from the parents"
    assert any("2 BatchNorm layers were re-estimated" in note for note in merged.notes)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": "dream", "grey": True}, "--grey has no effect on dreams"),
        ({"repair": True}, "repair needs data"),
    ],
)
def test_what_makes_no_sense_is_told(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        da.merge([_module(0), _module(1)], **options)


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 10, num_layers=2, batch_first=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class _Reading(nn.Module):
    """Reads tokens and gives a row of features for each, without a head."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.fc1, self.norm = nn.Embedding(30, 8), nn.Linear(8, 12), nn.LayerNorm(12)
        self.fc2 = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.fc1(self.table(x))).relu())


def _grouped() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.GELU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


def _over_time() -> nn.Module:
    return nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 2, 1))


@pytest.mark.parametrize(
    ("make", "shape", "says", "loss"),
    [
        (nets.mlp_layernorm, "12", "of classes", "divergence"),
        (_grouped, "3x16x16", "of classes", "divergence"),
        (_over_time, "4x20", "of noise", "squared error"),
        (_Recurrent, "5x6", "of classes", "divergence"),
        (_Reading, "7", "7 random tokens", "squared error"),
    ],
)
def test_every_kind_of_network_can_dream(
    make: Callable[[], nn.Module], shape: str, says: str, loss: str
) -> None:
    modules = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        modules.append(make().eval())
    few = {"input_shape": shape, "dream": 6, "dream_steps": 2}
    curve = da.barrier(*modules, method="activations", data="dream", points=3, **few)
    merged = da.merge(modules, method="weights", repair="dream", **few)

    assert curve.report.loss is not None
    assert curve.report.loss.startswith(loss)
    told = next(note for note in curve.report.notes if note.startswith("inputs: "))
    assert told.split(", in ")[0].endswith(says)
    assert any("repaired on dream, 6 examples" in note for note in merged.notes)
