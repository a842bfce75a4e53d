"""Dreams from Python: modules with BatchNorm dream by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import deepalign_cli as da
from deepalign_cli.errors import UsageError
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
