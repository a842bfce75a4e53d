"""Slopes of what a network gives: not every network has any, and its backward pass may fail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepalign_cli.errors import DataError, one_line


def slopes(value: Tensor, of: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of a number that a network has computed; zeros by what does not matter to it.

    Raises:
        DataError: there are none: the network runs under `torch.no_grad()`, say, or changes in place what a
            gradient needs.
    """
    try:
        return torch.autograd.grad(value, of, materialize_grads=True)
    except Exception as error:  # the user's own backward may raise anything
        raise DataError(
            f"no gradients can be taken of the loss on what the network gives: {one_line(error)}.",
            "let network and loss use PyTorch's operations alone, none under torch.no_grad() or in place.",
        ) from error
