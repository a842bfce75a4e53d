"""What a group may do to its units besides permuting them: a table with a row for each kind.

A kind says how its factors are drawn and which are valid; where a spec marks an axis with + or -, entries are
multiplied or divided by them. Everything else (acting, composing, inverting) is the same for all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """One kind of group.

    `turns` says that a unit may change its sign, `stretches` that it may change its size. `factors` makes
    random factors of uniform numbers in [0, 1), `allows` tells whether factors read from a file are of this
    kind. Both are None where units only change places.
    """

    name: str
    turns: bool = False
    stretches: bool = False
    factors: Callable[[Tensor], Tensor] | None = None
    allows: Callable[[Tensor], bool] | None = None

    @property
    def multiplies(self) -> bool:
        """Whether units have a factor, so that marks in a spec mean something."""
        return self.factors is not None

    def __str__(self) -> str:
        return self.name


def _signs(uniform: Tensor) -> Tensor:
    return 1.0 - 2.0 * (uniform < 0.5).to(uniform.dtype)


def _are_signs(factors: Tensor) -> bool:
    return bool((factors.abs() == 1).all())


def _scales(uniform: Tensor) -> Tensor:
    """Log-uniform in [1/2, 2]."""
    return (2 * uniform - 1).exp2()


def _are_scales(factors: Tensor) -> bool:
    return bool((factors > 0).all() and factors.isfinite().all())


PERMUTATION = Kind("permutation")
SIGN = Kind("sign", turns=True, factors=_signs, allows=_are_signs)
SCALE = Kind("scale", stretches=True, factors=_scales, allows=_are_scales)

KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in (PERMUTATION, SIGN, SCALE)})
