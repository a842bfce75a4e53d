"""What a tensor counts as: trained or a running statistic, and the type in which arithmetic is done."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepalign_cli.errors import MismatchError
from deepalign_cli.symmetry.tensor_names import is_statistic


def is_trained(name: str, w: Tensor) -> bool:
    """Whether a tensor counts in distances: floating point, and not a running statistic.

    Statistics move with their units but do not count: with them in the cost the fixed midpoint of
    residual networks with BatchNorm falls (`benchmarks/peers.py`).
    """
    return w.is_floating_point() and not is_statistic(name)


def in_dtype(weights: Mapping[str, Tensor], dtype: torch.dtype) -> Mapping[str, Tensor]:
    """The tensors with all floating-point ones in one type; the very mapping where they are already."""
    if all(w.dtype == dtype or not w.is_floating_point() for w in weights.values()):
        return weights
    return {n: w.to(dtype) if w.is_floating_point() else w for n, w in weights.items()}


def all_widened(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every floating-point tensor in the type in which arithmetic is done, all others as they are."""
    return {name: widened(w) if w.is_floating_point() else w for name, w in weights.items()}


def is_narrow(w: Tensor) -> bool:
    """Whether it holds floating-point numbers narrower than float32."""
    return w.is_floating_point() and w.itemsize < 4


def is_mixed(w: Tensor) -> bool:
    """Whether a merge averages it: real or complex numbers, and neither integers nor booleans."""
    return w.is_floating_point() or w.is_complex()


def real_view(w: Tensor) -> Tensor:
    """A complex tensor as pairs of real numbers; any other as it is."""
    return torch.view_as_real(w) if w.is_complex() else w


def narrowed(wide: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """The tensor `name` in a type, rounded once.

    Raises:
        MismatchError: a number is beyond an 8-bit type, which would clamp it without a sign.
    """
    if dtype.itemsize == 1 and wide.numel() and float(wide.abs().max()) > torch.finfo(dtype).max:
        problem = f"'{name}' has numbers beyond {torch.finfo(dtype).max:g}, the largest of its type {dtype}."
        raise MismatchError(problem, "convert the inputs to a wider type first, such as bfloat16.")
    return wide.to(dtype)


def widened(w: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it already is: the type in which arithmetic is done."""
    return w if w.dtype in (torch.float32, torch.float64) else w.float()
