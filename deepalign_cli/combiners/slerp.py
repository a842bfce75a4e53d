"""The arc between two aligned networks (Shoemake 1985)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.combiners.angles import cosine, gram, summed
from deepalign_cli.combiners.linear import WeightedMean, same_type
from deepalign_cli.symmetry.tensors import is_trained, narrowed, widened

_STRAIGHT = 0.9995  # the cosine from which the line does: mergekit's
_COLLINEAR = 1e-4  # the sine below which the arc is not told from the line


@dataclass(frozen=True)
class Slerp:
    """(sin((1 - t) w) a + sin(t w) b) / sin w for every tensor, with w the angle between a and b.

    `t` is the second weight. Running statistics, and tensors within 1.8 degrees of pointing the same or the
    opposite way, are averaged on the straight line. A tensor of zeros counts as at right angles to any.
    """

    weights: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        first = tensors[0]
        if not is_trained(name, first):
            return WeightedMean(self.weights)(name, tensors)
        a, b = same_type(widened(first), widened(tensors[1]))
        return narrowed(slerp(a, b, self.weights[1], _STRAIGHT), first.dtype, name)


def slerp(
    a: Shaped[Tensor, "*shape"], b: Shaped[Tensor, "*shape"], t: float, straight: float = 1.0
) -> Shaped[Tensor, "*shape"]:
    """The point at `t` on the arc; on the line where the cosine of the angle is beyond `straight`."""
    c = cosine(gram([a, b]), 0, 1)
    angle = math.acos(c)
    if abs(c) > straight or math.sin(angle) < _COLLINEAR:
        return summed((1 - t, t), (a, b))
    return summed(
        [math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)], (a, b)
    )
