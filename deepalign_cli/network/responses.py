"""How units respond to noise, and outputs to units: a network run by its graph alone, without its program.

Shared random inputs go through the weights layer by layer, a ReLU behind each; random directions at the
outputs come back through the same ReLUs. Both networks get the same inputs and the same directions, so what
a unit says of them can be compared, as activations on data can be; no data and no module are needed.

The graph does not tell a network's program. So every activation is taken for a ReLU and every norm is over
the batch at hand; convolutions move over a small field that wraps around, by one place at a time, and there
are no pools. Where several tensors write one group, as in a residual stream, they write in the order of
the symmetry's tensors. Networks with attention or gates are not read: the graph tells too little of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deepalign_cli.images import pink
from deepalign_cli.network.graph import Edge, Ends, Graph
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.network.strengths import has_wider
from deepalign_cli.network.waves import sketch
from deepalign_cli.symmetry.symmetry import Weights

State = Float[Tensor, "inputs _ side side"]
Readings = Mapping[str, Float[Tensor, "n samples"]]

_SIDE = 8  # of the field that a convolution moves over
_SAMPLES = 512  # a unit, in networks without convolutions
_FIELDS = 64  # with convolutions: each has _SIDE ** 2 samples a unit
_MOST_SAID = 2**24  # numbers that a network says, above which there are fewer inputs
_MOST_WORK = 2**34  # multiplications, as well
_LEAST_FIELDS = 8
_TINY = 1e-12


@dataclass(frozen=True)
class Responses:
    """What every unit says: `onward` its responses to the inputs, `back` how the outputs depend on it.

    Responses have mean zero; both have the mean square one, or are zero of a unit that says nothing.
    """

    onward: Readings
    back: Readings


def can_respond(graph: Graph) -> bool:
    """Whether the graph tells enough: layers from labelled inputs to outputs, and units without signs."""
    symmetry = graph.symmetry
    plain = not symmetry.turning and all(_is_plain(edge) for edge in graph.edges)
    ends = {edge.ends for edge in graph.edges}
    return plain and {Ends.INPUTS, Ends.OUTPUTS} <= ends and _reached(graph) == set(symmetry.sizes)


def convolves(graph: Graph) -> bool:
    """Whether there are kernels, of which a number stands for every pair of units and place."""
    return any(_is_kernel(edge) for edge in graph.edges)


def _is_plain(edge: Edge) -> bool:
    """Whether an edge is a layer's weight: one group or one labelled extent on each of the first two axes."""
    factors = [f for f in edge.cell.factors if f.size > 1 or f.group]
    first = [f for f in factors if f.axis == 0]
    groups = [f for f in factors if f.group]
    distinct = edge.ends is not Ends.GROUPS or edge.source != edge.target
    return len(first) <= 1 and len(groups) <= 2 and len(edge.cell.blocks) > 1 and distinct


def _reached(graph: Graph) -> set[str]:
    """The groups that inputs come to."""
    found = {edge.target for edge in graph.edges if edge.ends is Ends.INPUTS}
    for _ in graph.edges:
        found |= {e.target for e in graph.edges if e.ends is Ends.GROUPS and e.source in found}
    return found


def responses(graph: Graph, weights: Weights, seed: int) -> Responses:
    """Run one network (a stack of one, as `stacked` makes it) on the noise of `seed`.

    Equivariant: when a unit moves, what it says moves with it. It does not change when a unit of a ReLU is
    scaled. Computed in the weights' own type, and in float64 where that overflows.
    """
    made, is_finite = _responses(graph, weights, seed)
    like = weights[graph.names[0]]
    if is_finite or not has_wider(like):
        return made
    made, _ = _responses(graph, Lazy(graph.names, lambda name: weights[name].double()), seed)
    onward, back = ({g: x.to(like.dtype) for g, x in said.items()} for said in (made.onward, made.back))
    return Responses(onward, back)


def _responses(graph: Graph, weights: Weights, seed: int) -> tuple[Responses, bool]:
    """The same in the weights' own type, and whether nothing overflowed."""
    with torch.enable_grad():
        run = _Run(graph, weights, seed)
        run.onward()
        total = run.out()
        probes = {g: x for g, x in run.probes.items() if g in run.said}
        slopes = torch.autograd.grad(total, list(probes.values()), allow_unused=True)
    onward = {g: _standardised(x.detach()) for g, x in run.said.items()}
    back = {g: _unit(_rows(d)) for g, d in zip(probes, slopes, strict=True) if d is not None}
    is_finite = bool(total.isfinite()) and all(bool(x.isfinite().all()) for x in run.said.values())
    return Responses(onward, back), is_finite


class _Run:
    """One run: `said` by every group before its ReLU, and a zero added to it, by which slopes are taken."""

    def __init__(self, graph: Graph, weights: Weights, seed: int) -> None:
        self.graph, self.weights, self.seed = graph, weights, seed
        self.said: dict[str, State] = {}
        self.probes: dict[str, State] = {}
        self._written: dict[str, int] = {}
        self._side = _SIDE if convolves(graph) else 1
        self._inputs = inputs_of(graph, self._side)
        self._vectors: dict[tuple[str, str], list[Tensor]] = {}
        for vector in graph.vectors:
            role = vector.role if vector.role in _NORM_ROLES else "bias"
            entries = vector.cell.block(weights[vector.cell.name]).reshape(1, -1, 1, 1)
            self._vectors.setdefault((vector.group, role), []).append(entries)

    def onward(self) -> None:
        """Let every tensor speak, in order; those whose source has not spoken yet come later."""
        waiting = [edge for edge in self.graph.edges if edge.ends is not Ends.OUTPUTS]
        while waiting:
            later = []
            for edge in waiting:
                if edge.ends is Ends.INPUTS or edge.source in self.said:
                    self._write(edge)
                else:
                    later.append(edge)
            waiting = later

    def out(self) -> Float[Tensor, ""]:
        """The outputs' sum along one random direction for each input."""
        rng, total = torch.Generator().manual_seed(self.seed), torch.zeros(())
        for edge in self.graph.edges:
            if edge.ends is Ends.OUTPUTS:
                w = self._matrix(edge).mean(-1)
                direction = torch.randn(self._inputs, w.shape[0], generator=rng).to(w)
                total = total + torch.einsum("knxy,kn->", self._heard(edge.source), direction @ w)
        return total

    def _matrix(self, edge: Edge) -> Float[Tensor, "target source grid"]:
        return edge.matrix(self.weights[edge.cell.name])[0]

    def _heard(self, group: str) -> State:
        if group not in self.probes:
            self.probes[group] = torch.zeros_like(self.said[group]).requires_grad_()
        return functional.relu(self.said[group] + self.probes[group])

    def _write(self, edge: Edge) -> None:
        """Add what an edge brings to its target; a convolution on each channel by itself replaces it."""
        group, w = edge.target, self._matrix(edge)
        alone = edge.ends is Ends.INPUTS and group in self.said and w.shape[1] == 1
        if alone:
            made = _filtered(self._heard(group), w, edge.grid, groups=len(w))
        else:
            x = self._heard(edge.source) if edge.ends is Ends.GROUPS else self._noise(w)
            made = _filtered(x, w, edge.grid)
        made = self._normed(group, made)
        stays = group in self.said and not alone
        self.said[group] = functional.relu(self.said[group]) + made if stays else made

    def _noise(self, w: Float[Tensor, "target labels grid"]) -> State:
        """The inputs on a labelled axis: half white, half smooth where that is known to be an image."""
        labels, like = w.shape[1], w.detach()
        if self._side == 1:
            return sketch(self.seed, labels, 1, self._inputs, like)[:, 0].T.reshape(-1, labels, 1, 1)
        return noise_fields(self.seed, self._inputs, labels, self._side).to(like)

    def _normed(self, group: str, x: State) -> State:
        """What the group's next norm and bias make of a message."""
        place = self._written.get(group, 0)
        self._written[group] = place + 1
        scales, shifts = (self._vectors.get((group, role), []) for role in ("weight", "bias"))
        if group in self.graph.normed:
            x = _whitened(x, (0, 2, 3))
        elif scales:  # of a norm over the units of each input
            x = _whitened(x, (1, 2, 3))
        if scales:
            x = x * scales[min(place, len(scales) - 1)]
        each = len(shifts) // max(1, len(self.graph.writers[group]))  # a norm's comes behind its layer's
        number = (place + 1) * each - 1
        return x + shifts[number] if each and number < len(shifts) else x


_NORM_ROLES = ("weight", "running_mean", "running_var")


def inputs_of(graph: Graph, side: int) -> int:
    """How many inputs a network is run on: fewer of a large one."""
    usual, least = (_SAMPLES, 1) if side == 1 else (_FIELDS, _LEAST_FIELDS)
    said = sum(graph.symmetry.sizes.values()) * side**2
    work = sum(math.prod(graph.symmetry.shapes[edge.cell.name]) for edge in graph.edges) * side**2
    return max(least, min(usual, _MOST_SAID // max(1, said), _MOST_WORK // max(1, work)))


def noise_fields(seed: int, count: int, colours: int, side: int) -> Float[Tensor, "count colours side side"]:
    """Images of noise of variance one: half white, half with the spectrum 1/f; colours are alike."""
    rng = torch.Generator().manual_seed(seed)
    x = 0.8 * torch.randn(count, 1, side, side, generator=rng)
    x = x + 0.6 * torch.randn(count, colours, side, side, generator=rng)
    smooth = pink(x[count // 2 :], 2)
    return torch.cat([x[: count // 2], smooth / (smooth.std() + _TINY)])


def _is_kernel(edge: Edge) -> bool:
    return edge.ends is not Ends.OUTPUTS and math.prod(edge.grid) > 1


def _filtered(
    x: State, w: Float[Tensor, "target source grid"], grid: tuple[int, ...], groups: int = 1
) -> State:
    """A linear layer, or a convolution that wraps around; larger kernels are pooled to the field's size."""
    side = x.shape[-1]
    kernel = w.reshape(*w.shape[:2], grid[0] if grid else 1, -1)
    if max(kernel.shape[2:]) > side:
        before = kernel[0, 0].numel()
        rows, columns = (min(n, side) for n in kernel.shape[2:])
        kernel = functional.adaptive_avg_pool2d(kernel, (rows, columns))
        kernel = kernel * (before / kernel[0, 0].numel())
    rows, columns = kernel.shape[2:]
    pads = (columns // 2, (columns - 1) // 2, rows // 2, (rows - 1) // 2)
    if any(pads):
        x = functional.pad(x, pads, mode="circular")
    return functional.conv2d(x, kernel, groups=groups)


def _whitened(x: State, dims: tuple[int, ...]) -> State:
    x = x - x.mean(dims, keepdim=True)
    made: Tensor = x / (x.square().mean(dims, keepdim=True) + _TINY).sqrt()
    return made


def _rows(x: State) -> Float[Tensor, "n samples"]:
    return x.movedim(1, 0).flatten(1)


def _unit(x: Float[Tensor, "n samples"]) -> Float[Tensor, "n samples"]:
    unit = x / (x.square().mean(1, keepdim=True).sqrt() + _TINY)
    return unit.nan_to_num(0.0, 0.0, 0.0)


def _standardised(said: State) -> Float[Tensor, "n samples"]:
    """What units respond, or, of those that are never on, what they are driven by."""
    before = _rows(said)
    heard = functional.relu(before)
    heard, before = (x - x.mean(1, keepdim=True) for x in (heard, before))
    is_on = heard.square().mean(1, keepdim=True) > 1e-6 * before.square().mean(1, keepdim=True)
    return _unit(torch.where(is_on, heard, before))
