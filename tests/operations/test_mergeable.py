"""Adapters, quantised weights and pruning masks under merge."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import deepalign_cli as da
from deepalign_cli.errors import MismatchError

State = dict[str, Tensor]


def adapter() -> State:
    """As peft names them."""
    name = "base_model.model.layers.0.q_proj.lora_{}.weight"
    return {name.format("A"): torch.randn(4, 16), name.format("B"): torch.randn(16, 4)}


def gptq() -> State:
    return {
        "layers.0.q.qweight": torch.randint(0, 9, (4, 16), dtype=torch.int32),
        "layers.0.q.qzeros": torch.randint(0, 9, (1, 2), dtype=torch.int32),
        "layers.0.q.scales": torch.randn(1, 16).half(),
    }


def pruned() -> State:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    prune.random_unstructured(net[0], "weight", 0.5)
    return dict(net.state_dict())


def test_factors_without_their_scales_are_refused() -> None:
    with pytest.raises(MismatchError, match="the mean of factors is not the mean of adapters"):
        da.merge([adapter(), adapter()], method="none")


@pytest.mark.parametrize("suffix", ["qweight", "weight"])
def test_quantised_weights_are_refused(suffix: str) -> None:
    pair = [{name.replace("qweight", suffix): w for name, w in gptq().items()} for _ in range(2)]
    with pytest.raises(MismatchError, match="quantised weights"):
        da.merge(pair, method="none")


def test_masks() -> None:
    pair = [pruned(), pruned()]
    assert "0.weight_mask" in pair[0]
    notes = da.merge(pair, method="none").notes
    assert any("masks no more ('0.weight_mask')" in note for note in notes)
    whole = [{name: w.bool() if name.endswith("mask") else w for name, w in state.items()} for state in pair]
    assert any("masks are A's" in note for note in da.merge(whole, method="none").notes)


def test_plain_networks_have_no_such_notes() -> None:
    state = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).state_dict()
    notes = da.merge([dict(state), dict(state)], method="none").notes
    assert not any("adapters" in note or "masks" in note for note in notes)
