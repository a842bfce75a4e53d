"""The gains of norms, taken into the layers behind them and given back.

A norm's units may be turned only where its gain is the same for all: y = W (g * x + b) is W' (x + b') with
W' = W diag(g) and b' = b / g (Ashkboos et al. 2024). So an element takes the gains of the moving network in,
turns it, and gives it the reference's: tensors keep their names and shapes, and the gains of both agree.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.errors import MismatchError, SpecError
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensors import widened

_SMALLEST = 1e-3  # of the largest gain: dividing by less loses digits

Gains = Mapping[str, Float[Tensor, " n"]]


class NormGains:
    """Which tensors a spec's gains meet, and on which axis.

    Raises:
        SpecError: a gain is no vector of the checkpoint, nothing undoes it, or it does not fit an axis of a
            tensor that does.
    """

    def __init__(self, spec: Spec, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._of: dict[str, list[tuple[str, int]]] = {}  # a tensor's gains, and their axes
        self._names = tuple(spec.gains)
        for gain, others in spec.gains.items():
            shape = shapes.get(gain, ())
            if len(shape) != 1:
                raise SpecError(f"the gain '{gain}' of the spec is no vector of the checkpoint.", _HINT)
            if not others:
                raise SpecError(f"the gain '{gain}' of the spec has no tensor that undoes it.", _HINT)
            for name in others:
                self._of.setdefault(name, []).append((gain, _axis(spec, gain, name, shape[0], shapes)))

    def __contains__(self, name: object) -> bool:
        """Whether a tensor is a gain, or undoes one."""
        return name in self._names or name in self._of

    def of(self, weights: Mapping[str, Tensor]) -> Gains:
        """The gains of a network, in float64.

        Raises:
            MismatchError: one is 0, or so small that dividing by it would lose digits.
        """
        gains = {name: widened(weights[name]).double() for name in self._names}
        for name, gain in gains.items():
            size = gain.abs()
            if not bool(size.min() > _SMALLEST * size.max()):
                raise MismatchError(
                    f"the gain '{name}' is as small as {float(size.min()):.2g}, so its stream cannot turn.",
                    "align by permutations: another method than rotations.",
                )
        return gains

    def taken_in(self, name: str, w: Tensor, gains: Gains) -> Tensor:
        """The tensor of the network whose norms have no gains, of one in which they have these."""
        return self._times(name, w, gains, inverse=False)

    def given_back(self, name: str, w: Tensor, gains: Gains) -> Tensor:
        """The tensor of the network whose norms have these gains, of one in which they have none."""
        if name in gains:
            return gains[name].to(w)
        return self._times(name, w, gains, inverse=True)

    def _times(self, name: str, w: Tensor, gains: Gains, *, inverse: bool) -> Tensor:
        if name in gains:
            return torch.ones_like(w)
        for gain, axis in self._of.get(name, ()):
            if gain in gains:
                factor = gains[gain] if (w.ndim > 1) is not inverse else 1.0 / gains[gain]
                w = w * factor.to(w).reshape([-1 if d == axis else 1 for d in range(w.ndim)])
        return w


def _axis(spec: Spec, gain: str, name: str, size: int, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The axis of a tensor that a gain meets: the one with nothing on it but a turning group of that size.

    Of several the last: layers that write into the stream that they read have that on the first one, too.
    """
    for axis, one in reversed([*enumerate(spec.axes.get(name, ()))]):
        alone = len(one.terms) == 1 and len(one.terms[0]) == 1
        if alone and set(one.groups()) & spec.mixing and shapes[name][axis] == size:
            return axis
    raise SpecError(f"no axis of '{name}' carries the stream that the gain '{gain}' is of.", _HINT)


_HINT = "a line of [gains] names a norm's weight, and the bias and the layers that read it."
