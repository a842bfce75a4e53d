"""Multiplications, counted by hand."""

from __future__ import annotations

import torch
from torch.nn import functional

from deepalign_cli.measure.losses import CrossEntropy
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.work import multiplications
from deepalign_cli.repair import BatchStatistics
from deepalign_cli.symmetry.symmetry import Weights


def test_linear_layers_multiply_every_input_with_every_weight() -> None:
    design = MLP((6, 8, 3))
    weights = design.init(torch.Generator().manual_seed(0))
    x = torch.randn(5, 6)

    assert multiplications(weights, lambda w: design(w, x)) == 5 * (6 * 8 + 8 * 3)
    narrow = {name: w.half() for name, w in weights.items()}
    assert multiplications(narrow, lambda w: design(w, x)) == 5 * (6 * 8 + 8 * 3)


def test_kernels_multiply_at_every_place_and_groups_by_themselves() -> None:
    weights = {"a": torch.randn(4, 2, 3, 3), "b": torch.randn(4, 1, 3, 3)}
    x = torch.randn(2, 2, 8, 8)

    def run(w: Weights) -> torch.Tensor:
        return functional.conv2d(functional.conv2d(x, w["a"], padding=1), w["b"], groups=4, stride=2)

    assert multiplications(weights, run) == 2 * (64 * 4 * 2 * 9 + 9 * 4 * 9)


def test_what_runs_within_a_repair_is_counted_once() -> None:
    design = MLP((6, 8, 3))
    weights = design.init(torch.Generator().manual_seed(0))
    x, labels = torch.randn(5, 6), torch.zeros(5, dtype=torch.long)

    def loss(w: Weights) -> object:
        return CrossEntropy()(BatchStatistics(w).differentiably(design, x), labels)

    assert multiplications(weights, loss) == 5 * (6 * 8 + 8 * 3)
