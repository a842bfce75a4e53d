"""A plain ReLU classifier as a function of its weights."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.symmetry.naming import natural_key, place_of
from deepalign_cli.symmetry.symmetry import Weights


def mlp_logits(weights: Weights, inputs: Float[Tensor, "batch in"]) -> Float[Tensor, "batch classes"]:
    """The outputs of the linear layers in the order of their numbers, with ReLU between."""
    layers = sorted({place_of(name).path for name in weights}, key=natural_key)
    hidden = inputs
    for number, layer in enumerate(layers):
        hidden = torch.nn.functional.linear(hidden, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
        if number < len(layers) - 1:
            hidden = hidden.relu()
    return hidden


def accuracy(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"]) -> float:
    """The share of right answers, from 0 to 1."""
    return float((logits.argmax(dim=1) == labels).double().mean())
