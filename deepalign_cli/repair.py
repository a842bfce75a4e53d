"""Repair: correcting on data the statistics that averaging changes.

Averaged networks have hidden units that vary less than those of the networks they come from. Where
BatchNorm follows, its statistics are estimated again; elsewhere every hidden unit's pre-activation is brought
to the mean and the deviation that lie between those of the parents, and this is folded into weight and bias
(REPAIR, Jordan et al. 2023), so that an ordinary checkpoint comes out. The output layer is corrected, too:
with all hidden ones corrected it still varies less than the parents', and after an alignment up to half of
the remaining barrier comes from that.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.errors import DataError, NonFiniteError
from deepalign_cli.models.calls import Call, Calls, NormCall
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensor_names import is_statistic

_DEAD = 1e-12  # of the mean square: a unit that varies less does not vary


@dataclass(frozen=True)
class Moments:
    """Means and variances (over n, not n - 1) of a layer's units over `count` samples."""

    count: int
    mean: Float[Tensor, " n"]
    var: Float[Tensor, " n"]

    @property
    def deviation(self) -> Float[Tensor, " n"]:
        """The standard deviations; 0 where a unit does not vary but for rounding."""
        alive = self.var > _DEAD * (self.var + self.mean.square())
        return torch.where(alive, self.var, 0.0).sqrt()

    def __add__(self, other: Moments) -> Moments:
        """The moments over both sets of samples (Chan et al. 1983)."""
        count = self.count + other.count
        apart, share = other.mean - self.mean, other.count / count
        var = self.var + share * (other.var - self.var) + share * (1 - share) * apart.square()
        return Moments(count, self.mean + share * apart, var)


@dataclass(frozen=True)
class Correction:
    """The tensors that repair changes in `layers` and BatchNorms (`norms`); `notes` say what was left."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def applied(self, weights: Weights) -> dict[str, Tensor]:
        """All tensors of the repaired network, in their types."""
        return {n: self.tensors[n].to(w.dtype) if n in self.tensors else w for n, w in weights.items()}


@dataclass(frozen=True)
class ParentStatistics:
    """The moments of what the layers that REPAIR corrects give in the parents.

    `batches` has one entry a batch, and there one table a parent; `totals` are over all batches.
    """

    layers: tuple[str, ...]
    batches: tuple[tuple[Mapping[str, Moments], ...], ...]
    totals: tuple[Mapping[str, Moments], ...]


def reestimated(run: Run, weights: Weights, batches: Batches) -> dict[str, Tensor]:
    """BatchNorm's statistics over all batches; every batch is run with its own, as in training.

    Variances are unbiased, as PyTorch's running ones. Returns the tensors that change.

    Raises:
        DataError: there are no inputs, or a batch has one value a channel. NonFiniteError: activations hold
            NaN or Inf, or a statistic overflows its type.
    """
    repairing = _Repairing(weights)
    _each(repairing, run, batches)
    return _in_range(repairing.statistics())


def frozen_statistics(run: Run, weights: Weights, x: Tensor) -> list[str]:
    """The statistics of norms that the network does not hand to BatchNorm: repair cannot re-estimate them."""
    watching = _Repairing(weights)
    watching.run(run, x)
    computed = {name for mean, (var, _) in watching.norms.items() for name in (mean, var)}
    return [name for name in weights if is_statistic(name) and name not in computed]


def measure_parents(
    run: Run, symmetry: Symmetry, parents: Sequence[Weights], batches: Batches
) -> ParentStatistics:
    """Run the parents, all in the same units, on every batch: once for any number of mixtures.

    Corrected are layers of the spec that are not followed by a norm at once, and whose weight and bias are
    used once and by nothing else. BatchNorm has every batch's own statistics, as in the mixtures: what
    training has stored may be stale.

    Raises:
        DataError: there are no inputs, or a batch has one value a channel.
        NonFiniteError: activations hold NaN or Inf.
    """
    watching = [_Measuring(symmetry, weights) for weights in parents]
    rows = []
    for x in batches():
        for parent in watching:
            parent.moments.clear()
            parent.run(run, x)
        rows.append(tuple(dict(parent.moments) for parent in watching))
    if not rows:
        raise _empty()
    barred = {name for parent in watching for name in parent.barred}
    layers = tuple(n for n in rows[0][0] if n not in barred and all(n in one for row in rows for one in row))
    of_parents = zip(*rows, strict=True)
    totals = tuple({n: reduce(add, (one[n] for one in of_one)) for n in layers} for of_one in of_parents)
    return ParentStatistics(layers, tuple(rows), totals)


@torch.no_grad()
def repair(
    run: Run, parents: ParentStatistics, shares: Sequence[float], merged: Weights, batches: Batches,
    *, parents_too: bool = False,
) -> Correction:  # fmt: skip
    """Correct the network that mixes the parents by `shares`, which sum to 1.

    Its own moments are taken while earlier layers are corrected already, batch by batch, as BatchNorm in
    training would. A parent itself (a share of 1) is left as it is, unless `parents_too`: on a path along
    which BatchNorm is re-estimated, an end that keeps its stored statistics is another network than those
    beside it.

    Raises:
        DataError: there are no inputs, other ones than the parents were run on, or a batch has one value a
            channel where BatchNorm stands.
        NonFiniteError: activations hold NaN or Inf, or a tensor overflows its type.
    """
    if max(shares) == 1.0 and not parents_too:
        return Correction()
    repairing = _Repairing(merged, parents, shares)
    seen = _each(repairing, run, batches)
    if seen != len(parents.batches):
        raise DataError(
            f"repair was given {seen} batches where the parents were run on {len(parents.batches)}.",
            "give the same data in the same order.",
        )
    tensors = _in_range(repairing.statistics() | repairing.folded())
    return Correction(tensors, parents.layers, tuple(repairing.norms), repairing.notes())


class BatchStatistics(Calls):
    """Runs a network with every batch's own statistics in BatchNorm, as in training."""

    def batch_norm(self, call: NormCall) -> Tensor:
        return call.in_training() if call.input.requires_grad else _by_own_statistics(call)[0]


class _Measuring(BatchStatistics):
    """Takes the moments of what layers give; `barred` are those that are not to be corrected."""

    def __init__(self, symmetry: Symmetry, weights: Weights) -> None:
        super().__init__(weights)
        self.moments: dict[str, Moments] = {}
        shared = Counter(w.data_ptr() for w in weights.values())
        self.barred = {name for name, w in weights.items() if shared[w.data_ptr()] > 1}
        self._symmetry = symmetry
        self._biases: dict[str, str] = {}  # and the layer that adds it
        self._outputs: dict[int, tuple[weakref.ref[Tensor], str]] = {}

    def layer(self, call: Call) -> Tensor:
        out = call.output()
        if self._symmetry.moves(call.name):
            is_unnamed, is_tied = call.has_bias and call.bias is None, call.bias in self.barred
            if call.name in self.moments or is_unnamed or is_tied:
                self.barred.add(call.name)
            if call.bias is not None and self._biases.setdefault(call.bias, call.name) != call.name:
                self.barred |= {call.name, self._biases[call.bias]}
            self.moments[call.name] = _moments(out, call)
            self._outputs[id(out)] = weakref.ref(out), call.name
        return out

    def looked_up(self, name: str) -> None:
        self.barred.add(name)

    def used(self, name: str) -> None:
        self.barred |= {name, self._biases.get(name, name)}

    def normalised(self, x: Tensor) -> None:
        output = self._outputs.get(id(x))
        if output and output[0]() is x:
            self.barred.add(output[1])


class _Repairing(Calls):
    """Runs a network with every batch's own statistics in BatchNorm, and its layers corrected."""

    def __init__(
        self, weights: Weights, parents: ParentStatistics | None = None, shares: Sequence[float] = ()
    ) -> None:
        super().__init__(weights)
        self.norms: dict[str, tuple[str, Moments]] = {}
        self._types = {name: w.dtype for name, w in weights.items()}
        self._layers: dict[str, Moments] = {}
        self._biases: dict[str, tuple[str | None, int]] = {}  # and the axis that the layer writes
        self._parents, self._shares, self._batch = parents, shares, 0

    def run(self, run: Run, x: Tensor) -> Tensor:
        out = super().run(run, x)
        self._batch += 1
        return out

    def batch_norm(self, call: NormCall) -> Tensor:
        out, moments = _by_own_statistics(call)
        earlier = self.norms.get(call.mean)
        self.norms[call.mean] = call.var, earlier[1] + moments if earlier else moments
        return out

    def layer(self, call: Call) -> Tensor:
        out = call.output()
        if self._parents is None or call.name not in self._parents.layers:
            return out
        if self._batch >= len(self._parents.batches):  # an error that is raised when all have been counted
            return out
        own = _moments(out, call)
        earlier = self._layers.get(call.name)
        self._layers[call.name] = earlier + own if earlier else own
        self._biases[call.name] = call.bias, call.written
        goal = self._goal(call.name, self._parents.batches[self._batch])
        factor, shift = _step(own, goal, shifts=call.bias is not None)
        shape = [-1 if d == call.features(out) else 1 for d in range(out.ndim)]
        return out * _like(factor, out).reshape(shape) + _like(shift, out).reshape(shape)

    def statistics(self) -> dict[str, Tensor]:
        """BatchNorm's statistics over all batches."""
        tensors: dict[str, Tensor] = {}
        for mean, (var, moments) in self.norms.items():
            unbiased = moments.var * (moments.count / max(1, moments.count - 1))
            tensors |= {mean: moments.mean.to(self._types[mean]), var: unbiased.to(self._types[var])}
        return tensors

    def folded(self) -> dict[str, Tensor]:
        """Weights and biases that hold the correction."""
        assert self._parents is not None
        tensors: dict[str, Tensor] = {}
        for name, own in self._layers.items():
            bias, axis = self._biases[name]
            w, goal = self.weights[name].cpu().double(), self._goal(name, self._parents.totals)
            factor, shift = _step(own, goal, shifts=bias is not None)
            shape = [-1 if d == axis else 1 for d in range(w.ndim)]
            tensors[name] = (w * factor.reshape(shape)).to(self._types[name])
            if bias is not None:
                own_bias = self.weights[bias].cpu().double()
                tensors[bias] = (own_bias * factor + shift).to(self._types[bias])
        return tensors

    def notes(self) -> tuple[str, ...]:
        """What could not be corrected."""
        bare = [name for name, (bias, _) in self._biases.items() if bias is None]
        if not bare:
            return ()
        return (f"layers without a bias are rescaled but not shifted: {len(bare)}, such as '{bare[0]}'.",)

    def _goal(self, name: str, parents: Sequence[Mapping[str, Moments]]) -> tuple[Tensor, Tensor]:
        """The mean and the deviation that lie between the parents'."""
        moments = [parent[name] for parent in parents]
        shares = torch.tensor(self._shares, dtype=torch.float64)
        mean, deviation = (torch.stack([getattr(m, part) for m in moments]) for part in ("mean", "deviation"))
        return shares @ mean, shares @ deviation


def _step(own: Moments, goal: tuple[Tensor, Tensor], *, shifts: bool) -> tuple[Tensor, Tensor]:
    """The factor and the shift that bring a layer's units to the goal; none for units that do not vary."""
    mean, deviation = goal
    alive = (own.deviation > 0) & (deviation > 0)
    factor = torch.where(alive, deviation / own.deviation.clamp(min=1e-300), 1.0)
    shift = torch.where(alive, mean - own.mean * factor, 0.0)
    return factor, shift if shifts else torch.zeros_like(shift)


def _by_own_statistics(call: NormCall) -> tuple[Tensor, Moments]:
    """A BatchNorm's output with the batch's own statistics, and these. Raises as `_over`, and DataError."""
    moments = _over(call.input, 1, call.mean)
    if moments.count < 2:
        raise DataError(
            f"BatchNorm '{call.mean}' has one value a channel in a batch, which has no variance.",
            "give more examples, or run more of them at a time (--batch-size).",
        )
    mean, var = (_like(value, call.input) for value in (moments.mean, moments.var))
    return call.with_statistics(mean, var), moments


def _like(value: Tensor, x: Tensor) -> Tensor:
    """A statistic in the type of `x`, and where `x` is."""
    return value.to(x.dtype).to(x.device)


def _moments(out: Tensor, call: Call) -> Moments:
    return _over(out, call.features(out), call.name)


def _over(x: Tensor, axis: int, name: str) -> Moments:
    """The moments of a tensor over all axes but one. Raises NonFiniteError where they are not finite."""
    var, mean = torch.var_mean(x, [d for d in range(x.ndim) if d != axis], correction=0)
    if not (torch.isfinite(mean).all() and torch.isfinite(var).all()):
        message = f"the activations at '{name}' hold NaN or Inf."
        raise NonFiniteError(message, "check the networks' outputs on this data.")
    return Moments(x.numel() // x.shape[axis], mean.cpu().double(), var.cpu().double())


def _in_range(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors. Raises NonFiniteError where one has overflowed its type."""
    for name, w in tensors.items():
        if not torch.isfinite(w).all():
            message = f"'{name}' overflows its type when it is repaired."
            raise NonFiniteError(message, "convert the inputs to float32 first.")
    return tensors


def _each(calls: Calls, run: Run, batches: Batches) -> int:
    """Run all batches; returns how many there were."""
    seen = 0
    for x in batches():
        calls.run(run, x)
        seen += 1
    if not seen:
        raise _empty()
    return seen


def _empty() -> DataError:
    return DataError("there are no inputs to repair with.", "check that the data set is not empty.")
