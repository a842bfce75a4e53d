from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from tests.checkpoint.builders import saved

W = {"w": torch.ones(2)}


@pytest.mark.parametrize(
    ("value", "notes"),
    [
        (W, ()),
        ({"state_dict": W}, ("took 'state_dict'",)),
        ({"model_state_dict": W, "epoch": 3}, ("took 'model_state_dict' and left 'epoch'",)),
        ({"module": W}, ("took 'module'",)),
        ({"ema": {"w": torch.zeros(2)}, "model": W}, ("took 'model' and left 'ema'",)),
        ({"ema": {"module": W}}, ("took 'ema'", "took 'module'")),
        (
            {"state_dict": {"model": W}, "step": torch.tensor(3)},
            ("took 'state_dict' and left 'step'", "took 'model'"),
        ),
        ({"model": {}, "state_dict": W}, ("took 'state_dict' and left 'model'",)),
        ({**W, "epoch": 3}, ("1 entry that is not a tensor was left out",)),
        ({**W, "a": 1, "b": None}, ("2 entries that are not tensors were left out",)),
    ],
)
def test_finds_the_weights(tmp_path: Path, value: object, notes: tuple[str, ...]) -> None:
    (tmp_path / "x.pt").write_bytes(saved(value))
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert checkpoint["w"].tolist() == [1, 1]
    assert list(checkpoint) == ["w"]
    assert checkpoint.notes == notes
