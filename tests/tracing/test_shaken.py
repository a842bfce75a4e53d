"""Random weights that a trial runs on: generic, finite, and fit to be divided by."""

from __future__ import annotations

import torch
from torch import nn

from deepalign_cli.tracing.shaken import shaken
from tests.symmetry.builders import seeded


def test_no_number_of_a_vector_is_nearly_zero_so_that_gains_may_be_taken_in() -> None:
    norm = nn.LayerNorm(4000)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(4000, generator=seeded(0)))
        norm.weight[:5] = 0.0
    state = shaken(norm, seeded(1), {})
    for w in state.values():
        assert w.dtype == torch.float64
        assert float(w.abs().min()) >= 0.0099 * float(w.abs().max()) > 0
    assert 1500 < int((state["weight"] < 0).sum()) < 2500  # signs stay
    assert float((state["weight"] - norm.weight.detach()).std()) < 0.25


def test_what_is_not_finite_or_empty_is_left_alone() -> None:
    module = nn.Module()
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf, 1.0]))
    module.register_buffer("none", torch.zeros(0))
    state = shaken(module, seeded(0), {})
    assert not bool(state["mask"][1].isfinite())
    assert state["none"].numel() == 0


def test_tied_tensors_are_drawn_once() -> None:
    module = nn.Module()
    module.a = nn.Linear(3, 3)
    module.b = nn.Linear(3, 3)
    module.b.weight = module.a.weight
    state = shaken(module, seeded(0), {"a.weight": torch.ones(3, 3)})
    assert state["a.weight"] is state["b.weight"]
    assert state["a.weight"] is not state["a.bias"]
