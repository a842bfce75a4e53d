"""Two tensors with the same numbers may be one that is tied, of which a safetensors file says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.operations.making import deepalign

SAYS = "'dec.weight' and 'emb.weight', which hold the same numbers, are assumed to be two tensors"


def files(folder: Path, *, tied: bool, constant: bool = False) -> list[Path]:
    """Two language models, of which each tensor is stored by itself."""
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        parts = {"emb": nn.Embedding(20, 6), "rnn": nn.LSTM(6, 6), "dec": nn.Linear(6, 20)}
        state = {f"{k}.{n}": w.clone() for k, m in parts.items() for n, w in m.state_dict().items()}
        if constant:
            state["emb.weight"].fill_(1)
        if tied:
            state["dec.weight"] = state["emb.weight"].clone()
        paths.append(folder / f"{seed}.safetensors")
        save_file(state, paths[-1])
    return paths


@pytest.mark.parametrize("how", [{"tied": False}, {"tied": True}, {"tied": True, "constant": True}])
def test_equal_tensors_are_an_assumption(how: dict[str, bool], tmp_path: Path) -> None:
    line = "align", *files(tmp_path, **how), "-m", "weights", "-o"
    said = deepalign(*line, tmp_path / "out.safetensors", "--json").json["assumptions"]
    assert any(one.startswith(SAYS) for one in said) == (how == {"tied": True})


def test_they_are_none_where_they_move_alike(tmp_path: Path) -> None:
    """Or where a spec says what they are."""
    a, b = files(tmp_path, tied=True)
    spec = tmp_path / "spec.toml"
    spec.write_text('[axes]\n"rnn.bias_ih_l0" = "4*6"\n')
    line = "align", a, b, "-m", "weights", "--spec", spec, "-o", tmp_path / "out.safetensors", "--json"
    assert deepalign(*line).json["assumptions"] == []
