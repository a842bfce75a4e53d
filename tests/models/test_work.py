"""Multiplications, counted by hand, and what takes time without them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from deepalign_cli.measure.losses import CrossEntropy
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.work import work
from deepalign_cli.repair import BatchStatistics
from deepalign_cli.symmetry.symmetry import Weights


def test_linear_layers_multiply_every_input_with_every_weight() -> None:
    design = MLP((6, 8, 3))
    weights = design.init(torch.Generator().manual_seed(0))
    x = torch.randn(5, 6)

    assert work(weights, lambda w: design(w, x)).products == 5 * (6 * 8 + 8 * 3)
    narrow = {name: w.half() for name, w in weights.items()}
    assert work(narrow, lambda w: design(w, x)).products == 5 * (6 * 8 + 8 * 3)


def test_kernels_multiply_at_every_place_and_groups_by_themselves() -> None:
    weights = {"a": torch.randn(4, 2, 3, 3), "b": torch.randn(4, 1, 3, 3)}
    x = torch.randn(2, 2, 8, 8)

    def run(w: Weights) -> torch.Tensor:
        return functional.conv2d(functional.conv2d(x, w["a"], padding=1), w["b"], groups=4, stride=2)

    assert work(weights, run).products == 2 * (64 * 4 * 2 * 9 + 9 * 4 * 9)


def test_what_runs_within_a_repair_is_counted_once() -> None:
    design = MLP((6, 8, 3))
    weights = design.init(torch.Generator().manual_seed(0))
    x, labels = torch.randn(5, 6), torch.zeros(5, dtype=torch.long)

    def loss(w: Weights) -> object:
        return CrossEntropy()(BatchStatistics(w).differentiably(design, x), labels)

    assert work(weights, loss).products == 5 * (6 * 8 + 8 * 3)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers_multiply_at_every_time_and_take_operations_for_each(kind: type[nn.RNNBase]) -> None:
    module = kind(6, 8, batch_first=True)
    weights = {name: w.detach() for name, w in module.named_parameters()}
    short, long = (
        work(weights, lambda w, times=times: functional_call(module, dict(w), (torch.randn(3, times, 6),)))
        for times in (5, 50)
    )

    gates = weights["weight_hh_l0"].shape[0]
    assert short.products == 3 * 5 * gates * (6 + 8)
    assert long.products == 10 * short.products
    assert long.operations > 5 * short.operations


def test_attention_costs_the_square_of_the_length() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    weights = {name: w.detach() for name, w in layer.named_parameters()}
    each = [
        work(weights, lambda w, n=n: functional_call(layer, dict(w), (torch.randn(2, n, 8),))).products / n
        for n in (100, 200, 300)
    ]

    assert each[0] > 2 * 8 * (4 * 8 + 2 * 16)
    assert each[2] - each[1] == pytest.approx(each[1] - each[0])
    assert each[1] > each[0]


def test_work_that_does_not_grow_is_told_apart() -> None:
    design = MLP((6, *[8] * 10, 3))
    weights = design.init(torch.Generator().manual_seed(0))
    few, many = (work(weights, lambda w, n=n: design(w, torch.randn(n, 6))) for n in (2, 200))

    assert many.growing == 100 * few.growing
    assert many.fixed == few.fixed > 0
    assert many.total == many.growing + many.fixed
