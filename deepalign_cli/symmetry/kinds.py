"""What a group may do to its units besides permuting them: a table with a row for each kind.

A kind says how its factors are drawn and which are valid. A factor c acts on an axis as |c|^e sgn(c)^f, where
the spec's mark on the axis gives e (+, - or neither) and f (~). A kind that mixes turns its units by an
orthogonal matrix, on every axis alike, in the place of permuting them. Everything else (acting, composing,
inverting) is the same for all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from deepalign_cli.errors import UsageError
from deepalign_cli.parameters import load

if TYPE_CHECKING:
    from torch import Tensor

    from deepalign_cli.symmetry.turns import Nearest


@dataclass(frozen=True)
class Kind:
    """One kind of group.

    `turns` says that a unit may change its sign, `stretches` that it may change its size. `factors` makes
    random factors of uniform numbers in [0, 1), `allows` tells whether factors read from a file are of this
    kind. Both are None where units only change places. `rotation` names, as "module:name", what finds the
    kind's orthogonal matrix that is nearest to a given one; it is empty where units are not mixed. `pairs`
    says that it mixes two units at a time, so that their number must be even, `jumps` that none of its
    matrices is next to another, so that no gradient leads from one to the next.
    """

    name: str
    turns: bool = False
    stretches: bool = False
    factors: Callable[[Tensor], Tensor] | None = None
    allows: Callable[[Tensor], bool] | None = None
    rotation: str = ""
    pairs: bool = False
    jumps: bool = False

    @property
    def mixes(self) -> bool:
        """Whether units turn into one another by an orthogonal matrix."""
        return bool(self.rotation)

    @property
    def nearest(self) -> Nearest:
        """What finds the nearest orthogonal matrix of the kind; of kinds that mix only."""
        found: Nearest = load(self.rotation)
        return found

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


def _signed_scales(uniform: Tensor) -> Tensor:
    """A sign and, independent of it, a magnitude: which half, and where in it."""
    return _signs(uniform) * _scales((2 * uniform) % 1)


def _are_signed_scales(factors: Tensor) -> bool:
    return bool((factors != 0).all() and factors.isfinite().all())


PERMUTATION = Kind("permutation")
SIGN = Kind("sign", turns=True, factors=_signs, allows=_are_signs)
SCALE = Kind("scale", stretches=True, factors=_scales, allows=_are_scales)
SIGNED_SCALE = Kind(
    "signed scale", turns=True, stretches=True, factors=_signed_scales, allows=_are_signed_scales
)

ORTHOGONAL = Kind("orthogonal", rotation="deepalign_cli.symmetry.turns:polar")
CENTRED = Kind("centred orthogonal", rotation="deepalign_cli.symmetry.turns:centred_polar")
ROTARY = Kind("rotary", rotation="deepalign_cli.symmetry.turns:planar", pairs=True)
NEIGHBOURS = Kind(
    "rotary of neighbours", rotation="deepalign_cli.symmetry.turns:neighbour_planar", pairs=True
)
HALF_TURNS = Kind(
    "rotary half turns", rotation="deepalign_cli.symmetry.turns:half_turns", pairs=True, jumps=True
)
SORTED = Kind("permutation inside", rotation="deepalign_cli.symmetry.turns:nearest_order", jumps=True)

_ALL = (
    PERMUTATION, SIGN, SCALE, SIGNED_SCALE, ORTHOGONAL, CENTRED, ROTARY, NEIGHBOURS, HALF_TURNS, SORTED
)  # fmt: skip
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL})
MOVABLE = (SCALE, SIGN)  # what `--kinds` may name; both together are SIGNED_SCALE


def kind_that(*, turns: bool, stretches: bool) -> Kind:
    """The kind whose units may change their sign, their size, both or neither."""
    plain = (kind for kind in KINDS.values() if not kind.mixes)
    return next(kind for kind in plain if (kind.turns, kind.stretches) == (turns, stretches))


def parse_kinds(text: str) -> frozenset[Kind]:
    """The kinds that a list such as `scale,sign` names.

    Raises:
        UsageError: one is neither `scale` nor `sign`.
    """
    names, known = [name.strip() for name in text.split(",")], {kind.name: kind for kind in MOVABLE}
    for name in names:
        if name not in known:
            raise UsageError(f"'{name}' is not a kind that can be moved.", "it is scale, sign or scale,sign.")
    return frozenset(known[name] for name in names)
