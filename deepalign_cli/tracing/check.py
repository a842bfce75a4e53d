"""A spec tried on the network itself: in float64, a random element must not change what it computes.

Rules are where errors hide, and no rule knows that an example was special (a sequence of one step, say).
So every trace ends here: all groups at once for each kind, on several inputs of several shapes; where
that fails every group by itself, and a group that fails stays in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deepalign_cli.errors import SpecError, one_line
from deepalign_cli.models.example import Example, Outputs
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.tracing.shaken import loosen, other_inputs, other_shapes, same_shapes, settled, shaken
from deepalign_cli.tracing.wide import Wide

TOLERANCE = 1e-10
_MOST_ROUNDING = 1e-8  # of the spread: more is no rounding, whatever the network does to it
_LARGE = 2**25  # numbers, from which one element has to do
_RESPONSE = 1e-6  # of the outputs: a smaller spread over the inputs would count rounding as change


# What is tried by itself: whether scales and signs move besides the permutations.
WAYS = {"permutations": (False, False), "scales": (True, False), "signs": (False, True)}


@dataclass(frozen=True)
class Checked:
    """A spec after the check: without the groups that failed, and the largest change of an output.

    `residual` is relative to the spread of the outputs over inputs; `failed` has each failed group's.
    `runs` is the number of inputs.
    """

    spec: Spec
    residual: float
    runs: int
    failed: Mapping[str, float]


def check(
    spec: Spec, module: nn.Module, example: Example, *, names: Sequence[str] = (),
    weights: Weights | None = None, seed: int = 0, trial: Trial | None = None,
) -> Checked:  # fmt: skip
    """Try random elements with permutations, scales and signs, as far as the spec allows them.

    On a `trial` of this network, if there is one.

    `weights` are the tensors to run with, by the module's names, in place of its own; they are made random
    all the same. `names` are the outputs that count.

    Raises:
        SpecError: the network cannot be run in float64, its outputs are not finite, or do not depend on
            its inputs.
    """
    trial = trial or Trial(module, example, names, weights=weights, seed=seed)
    failed: dict[str, float] = {}
    worst, bad = trial.of(Symmetry(spec.with_kinds(scale=True, sign=True), trial.shapes))
    for scale, sign in WAYS.values() if bad else ():
        kinds = spec.with_kinds(scale=scale, sign=sign)
        residual, alone = trial.of(Symmetry(kinds, trial.shapes))
        worst = max(worst, residual)
        failed |= alone
    if failed:
        sizes = Symmetry(spec, trial.shapes).sizes
        spec = spec.holding({group: sizes[group] for group in failed})
    return Checked(spec, worst, len(trial.examples), failed)


class Trial:
    """A module with random weights, and its outputs for several inputs."""

    def __init__(
        self, module: nn.Module, example: Example, names: Sequence[str] = (), *,
        weights: Weights | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.rng = torch.Generator().manual_seed(seed)
        self.module = Outputs(module, names)
        self.state = shaken(module, self.rng, weights or {})
        self.shapes = {name: tuple(w.shape) for name, w in self.state.items()}
        self.is_large = sum(w.numel() for w in self.state.values()) > _LARGE
        self._rest = _rest(module, self.state)
        self.examples: list[Example] = []
        self.outputs: list[list[Tensor]] = []
        example = example.mapped(lambda x: x.double() if x.is_floating_point() else x)
        if any("running_mean" in name for name in self.state):
            with contextlib.suppress(Exception), settled(module):  # a batch may be too small for statistics
                self.run(example)
                loosen(self.state, self.rng)
        try:
            self._add(example, self.run(example))
        except Exception as error:  # the module's own code may raise anything
            raise SpecError(
                f"the network cannot be run in float64: {one_line(error)[:300]}.",
                "check the example inputs.",
            ) from error
        if not _equal(self.outputs[0], self.run(example)):
            raise SpecError(
                "the network returns other outputs each time it is run.", "remove the randomness."
            )
        other = self._tried(other_inputs(example, self.rng))
        self._check_outputs(other)
        for one in other_shapes(example):
            if not same_shapes(one, example):
                self._tried(one)
        self.spread = [_spread(x, other[i] if other else None) for i, x in enumerate(self.outputs[0])]

    def run(self, example: Example) -> list[Tensor]:
        """The outputs in float64."""
        state = {f"module.{name}": w for name, w in (self._rest | self.state).items()}
        with torch.random.fork_rng(devices=[]), torch.no_grad(), Wide():  # type: ignore[no-untyped-call]
            torch.manual_seed(0)  # some networks draw numbers in evaluation mode, too
            out = functional_call(self.module, state, example.args, dict(example.kwargs), tie_weights=False)
        return [t.double() for t in out]

    def of(self, symmetry: Symmetry) -> tuple[float, dict[str, float]]:
        """The change by random elements of all groups; and, where it is too large, by each that fails."""
        worst = 0.0
        for _ in range(1 if self.is_large else 2):
            g = symmetry.random(self.rng)
            self._act(symmetry, g)
            residual = self._residual()
            if residual > TOLERANCE:
                self._act(symmetry, g.inverse())
                if residual > (limit := max(TOLERANCE, self._rounding())):
                    return residual, self._alone(symmetry, g, limit)
            worst = max(worst, residual)
        return worst, {}

    def change(self, symmetry: Symmetry, g: Element, instead: Weights) -> float:
        """The change of the outputs under `g` with some tensors replaced."""
        kept = self.state
        self.state = {n: instead[n] if n in instead else symmetry.act(g, n, w) for n, w in kept.items()}
        residual = self._residual()
        self.state = kept
        return residual

    def _alone(self, symmetry: Symmetry, g: Element, limit: float) -> dict[str, float]:
        failed = {}
        for group in symmetry.sizes:
            part = symmetry.only(g, [group])
            self._act(symmetry, part)
            if (residual := self._residual()) > limit:
                failed[group] = residual
            self._act(symmetry, part.inverse())
        return failed or dict.fromkeys(symmetry.sizes, float("inf"))  # only together: none is safe

    def _act(self, symmetry: Symmetry, g: Element) -> None:
        """Move the state's units, a tensor at a time: no two copies of the network are held at once."""
        own = symmetry.without_gains(self.state)
        g = own.inverse() @ g @ own
        tied: dict[int, list[str]] = {}
        for name, w in self.state.items():
            tied.setdefault(id(w), []).append(name)
        for names in tied.values():
            moved = symmetry.act(g, names[0], self.state[names[0]])
            self.state |= dict.fromkeys(names, moved)

    def _residual(self) -> float:
        worst = 0.0
        for example, before in zip(self.examples, self.outputs, strict=True):
            after = self.run(example)
            for x, y, spread in zip(before, after, self.spread, strict=True):
                change = float((x - y).abs().max()) / spread if x.numel() else 0.0
                worst = max(worst, change if change == change else float("inf"))
        return worst

    def _rounding(self) -> float:
        """What rounding alone may change: a hundred times what a last digit of every weight does.

        Only where the state computes what it did at first.
        """
        kept = self.state
        self.state = {
            name: w * (1 + 2e-16 * torch.randn(w.shape, generator=self.rng, dtype=w.dtype))
            if w.is_floating_point()
            else w
            for name, w in kept.items()
        }
        residual = self._residual()
        self.state = kept
        return min(100 * residual, _MOST_ROUNDING)

    def _tried(self, example: Example) -> list[Tensor] | None:
        """The outputs for other inputs, which the network may not take."""
        try:
            outputs = self.run(example)
        except Exception:
            return None
        if not all(bool(t.isfinite().all()) for t in outputs):
            return None
        self._add(example, outputs)
        return outputs

    def _add(self, example: Example, outputs: list[Tensor]) -> None:
        self.examples.append(example)
        self.outputs.append(outputs)

    def _check_outputs(self, other: list[Tensor] | None) -> None:
        hint = "give example inputs that the network was made for."
        first = self.outputs[0]
        if not first:
            raise SpecError("the network returns no floating-point tensor.", hint)
        if not all(bool(t.isfinite().all()) for t in first):
            raise SpecError("the network's outputs for the example are not finite.", hint)
        if other and all(a.numel() == 0 or torch.equal(a, b) for a, b in zip(first, other, strict=True)):
            raise SpecError("the network's outputs do not depend on its inputs.", hint)


def _equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(a, b, strict=True))


def _rest(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Buffers that no checkpoint holds, in float64."""
    buffers = {name: b for name, b in module.named_buffers() if name not in state}
    return {name: b.double() for name, b in buffers.items() if b.is_floating_point()}


def _spread(x: Tensor, other: Tensor | None) -> float:
    """How much an output differs between inputs, or else in itself, as the measure of a change."""
    if not x.numel():
        return 1.0
    spread = float(x.max() - x.min()) if other is None else float((x - other).abs().max())
    return max(spread, _RESPONSE * float(x.abs().max())) or 1.0
