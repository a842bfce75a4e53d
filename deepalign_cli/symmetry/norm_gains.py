"""The gains of norms, taken into the layers behind them and given back.

A norm's units may be turned only where its gain is the same for all: y = W (g * x + b) is W' (x + b') with
W' = W diag(g) and b' = b / g (Ashkboos et al. 2024). So an element takes the gains of the moving network in,
turns it, and gives it the reference's: tensors keep their names and shapes, and the gains of both agree.
Where a norm adds one to what the file holds (Gemma), that sum is the gain, and no gain is a file of zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.errors import MismatchError, SpecError
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.kinds import CENTRED, ORTHOGONAL
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
        self._added = {gain: float(gain in spec.plus_one) for gain in spec.gains}
        self.streams: dict[str, str] = {}  # the group that turns behind each gain
        for gain, others in spec.gains.items():
            shape = shapes.get(gain, ())
            if len(shape) != 1:
                raise SpecError(f"the gain '{gain}' of the spec is no vector of the checkpoint.", _HINT)
            if not others:
                raise SpecError(f"the gain '{gain}' of the spec has no tensor that undoes it.", _HINT)
            for name in others:
                axis = _axis(spec, gain, name, shape[0], shapes)
                self._of.setdefault(name, []).append((gain, axis))
                self.streams[gain] = next(spec.axes[name][axis].groups())

    def __contains__(self, name: object) -> bool:
        """Whether a tensor is a gain, or undoes one."""
        return name in self._names or name in self._of

    def of(self, weights: Mapping[str, Tensor]) -> Gains:
        """The gains of a network, in float64.

        Raises:
            MismatchError: one is 0, or so small that dividing by it would lose digits.
        """
        for name, size in self.too_small(weights).items():
            raise MismatchError(
                f"the gain '{name}' is as small as {size:.2g}, so its stream cannot turn.",
                "align by permutations: another method than rotations.",
            )
        return {name: self._gain(name, weights[name]).double() for name in self._names}

    def too_small(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """The gains that must not be divided by, and the smallest number of each."""
        sizes = {name: self._gain(name, weights[name]).abs() for name in self._names}
        return {n: float(s.min()) for n, s in sizes.items() if not bool(s.min() > _SMALLEST * s.max())}

    def taken_in(self, name: str, w: Tensor, gains: Gains) -> Tensor:
        """The tensor of the network whose norms have no gains, of one in which they have these."""
        return self._times(name, w, gains, inverse=False)

    def given_back(self, name: str, w: Tensor, gains: Gains) -> Tensor:
        """The tensor of the network whose norms have these gains, of one in which they have none."""
        if name in gains:
            return (gains[name] - self._added[name]).to(w)
        return self._times(name, w, gains, inverse=True)

    def _gain(self, name: str, w: Tensor) -> Tensor:
        """What a norm multiplies by; in float64 where that is not the file's number itself."""
        return widened(w).double() + 1 if self._added[name] else widened(w)

    def _times(self, name: str, w: Tensor, gains: Gains, *, inverse: bool) -> Tensor:
        if name in gains:
            return torch.full_like(w, 1 - self._added[name])
        for gain, axis in self._of.get(name, ()):
            if gain in gains:
                factor = gains[gain] if (w.ndim > 1) is not inverse else 1.0 / gains[gain]
                w = w * factor.to(w).reshape([-1 if d == axis else 1 for d in range(w.ndim)])
        return w


def steadied(spec: Spec, norms: NormGains, weights: Mapping[str, Tensor], called: str) -> Spec:
    """The spec in which streams behind gains that are nearly 0 in a network permute in the place of turning.

    Their gains permute with them, as they do for methods that do not turn.
    """
    small = {
        gain: size for gain, size in norms.too_small(weights).items() if norms.streams[gain] in spec.kinds
    }
    still = {
        norms.streams[gain] for gain in small if spec.kinds[norms.streams[gain]] in (ORTHOGONAL, CENTRED)
    }
    if not still:
        return spec
    freed = {gain: group for gain, group in norms.streams.items() if group in still}
    axes = {**spec.axes, **{gain: (Axis(((Atom(group),),)),) for gain, group in freed.items()}}
    gain, size = next(iter(small.items()))
    line = (
        f"{', '.join(sorted(still))} only permutes: the gain '{gain}' of {called} is as small as {size:.2g}"
    )
    return replace(
        spec, axes=axes, kinds={g: kind for g, kind in spec.kinds.items() if g not in still},
        gains={n: others for n, others in spec.gains.items() if n not in freed},
        plus_one=spec.plus_one.difference(freed), stays=(*spec.stays, line),
    )  # fmt: skip


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
