from __future__ import annotations

import pytest
import torch

from deepalign_cli.models.designs.mlp import MLP
from tests import nets
from tests.models.designs.builders import inputs_of, same_outputs, weights_of


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "tanh", "sin"])
@pytest.mark.parametrize("sizes", [(4, 3), (12, 16, 20, 5), (6, *[8] * 11, 4)])
def test_it_is_pytorchs(sizes: tuple[int, ...], activation: str) -> None:
    assert same_outputs(MLP(sizes, activation), nets.named_mlp(sizes, activation))


def test_images_are_flattened() -> None:
    design = MLP((12, 8, 3))
    weights, x = weights_of(design), inputs_of(design)
    assert torch.equal(design(weights, x.reshape(5, 1, 3, 4)), design(weights, x))
