"""The product: how alike two networks' units are."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor


def similarities(
    a: Mapping[str, Float[Tensor, "batch n c"]], b: Mapping[str, Float[Tensor, "batch n c"]]
) -> dict[str, Float[Tensor, "batch n n"]]:
    """Per group the cosine of every unit's features with every other's, centred over the units.

    Navon et al. 2024, section 4: the product of the activation maps.
    """
    return {g: directions(a[g]) @ directions(b[g]).transpose(1, 2) for g in a}


def directions(x: Float[Tensor, "batch n c"]) -> Float[Tensor, "batch n c"]:
    """Features centred over the units, of length one."""
    x = x - x.mean(1, keepdim=True)
    unit: Tensor = x / (x.norm(dim=2, keepdim=True) + 1e-12)
    return unit


def spread(x: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Without the rows' and columns' means, which no assignment sees, and of variance one."""
    rows, columns = x.mean(1, keepdim=True), x.mean(0, keepdim=True)
    x = (x - rows).sub_(columns - rows.mean())
    return x.div_((x.square().mean() + 1e-12).sqrt())
