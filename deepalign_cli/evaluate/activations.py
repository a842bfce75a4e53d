"""Activation matching on any design: correlations of standardised activations over all training images.

Li et al. 2015 and Ainsworth et al. 2023 (section 3.1) match units by their activations; here these are
standardised, which does better than raw inner products. Activations are taken where they are read: the
input of every linear or convolution layer whose weight carries a group on its second axis. They are
streamed: only second moments are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from deepalign_cli.assignment import assign
from deepalign_cli.evaluate.designs import Design
from deepalign_cli.network.graph import Cell, Graph
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Weights

CHUNK = 500  # images at a time
_ROUNDING = 1e-6  # of the mean square: a smaller variance is rounding
_LAYERS = (functional.linear, functional.conv2d)


@dataclass(frozen=True)
class Reader:
    """One place where a group is read: the second axis of a cell."""

    group: str
    cell: Cell

    def samples(self, x: Float[Tensor, ...]) -> Float[Tensor, "samples n"]:
        """The group's units in a layer's input; images and all other places (pixels, tokens) are samples."""
        axis = 1 if x.ndim == 4 else x.ndim - 1  # of channels in an image, of features otherwise
        factors = [f for f in self.cell.factors if f.axis == 1]
        place = next(i for i, f in enumerate(factors) if f.group == self.group)
        part = x.movedim(axis, 0)[self.cell.slices[1]]
        part = part.reshape(*(f.size for f in factors), *part.shape[1:])
        rows: Tensor = part.movedim(place, 0).flatten(1).T
        return rows


class Moments:
    """Sums over samples of two networks' activations, of their squares and of all their products."""

    def __init__(self, n: int) -> None:
        self.count = 0
        self.sums = torch.zeros(2, n, dtype=torch.float64)
        self.squares = torch.zeros(2, n, dtype=torch.float64)
        self.products = torch.zeros(n, n, dtype=torch.float64)

    def add(self, a: Float[Tensor, "samples n"], b: Float[Tensor, "samples n"]) -> None:
        self.count += len(a)
        self.sums += torch.stack([x.sum(0) for x in (a, b)])
        self.squares += torch.stack([x.square().sum(0) for x in (a, b)])
        self.products += a.T @ b

    def correlations(self) -> Float[Tensor, "n n"]:
        """Units of the first network by units of the second; 0 for a unit that never changes."""
        mean, square = self.sums / self.count, self.squares / self.count
        variance = square - mean.square()
        changes = variance > _ROUNDING * square
        inverse = torch.where(changes, variance.clamp(min=1e-30).rsqrt(), 0.0)
        covariance = self.products / self.count - mean[0][:, None] * mean[1]
        return inverse[0][:, None] * covariance * inverse[1]


class _Captured(TorchFunctionMode):
    """Keeps the input of every layer whose weight is one of `weights`, by the weight's name."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.names = {id(w): name for name, w in weights.items()}
        self.inputs: dict[str, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in _LAYERS and (name := self.names.get(id(args[1]))) is not None:
            self.inputs[name] = args[0]
        return func(*args, **(kwargs or {}))


def readers_of(graph: Graph) -> list[Reader]:
    """All places where groups are read, each once: cells that differ in their rows read the same input."""
    found: dict[tuple[str, str, int], Reader] = {}
    for edge in graph.edges:
        if edge.source and any(f.group == edge.source and f.axis == 1 for f in edge.cell.factors):
            place = (edge.source, edge.cell.name, edge.cell.slices[1].start)
            found.setdefault(place, Reader(edge.source, edge.cell))
    return list(found.values())


def correlations(
    design: Design, graph: Graph, a: Weights, b: Weights, x: Float[Tensor, "images ..."]
) -> dict[str, Float[Tensor, "n n"]]:
    """For every group that is read, the sum over its readers of the two networks' correlations on `x`."""
    readers = readers_of(graph)
    moments = [Moments(graph.symmetry.sizes[r.group]) for r in readers]
    for images in torch.split(x, CHUNK):
        inputs = [_inputs(design, weights, images) for weights in (a, b)]
        for reader, moment in zip(readers, moments, strict=True):
            if all(reader.cell.name in found for found in inputs):
                moment.add(*(reader.samples(found[reader.cell.name]) for found in inputs))
    total: dict[str, Tensor] = {}
    for reader, moment in zip(readers, moments, strict=True):
        if moment.count:
            total[reader.group] = total.get(reader.group, torch.zeros(())) + moment.correlations()
    return total


@torch.no_grad()
def activation_matching(
    design: Design, graph: Graph, a: Weights, b: Weights, x: Float[Tensor, "images ..."]
) -> Element:
    """The element that carries `b` onto `a`; groups that no layer reads stay where they are."""
    found = {g: assign(c) for g, c in correlations(design, graph, a, b, x).items()}
    return Element({**graph.symmetry.identity().perm, **found})


def _inputs(design: Design, weights: Weights, images: Float[Tensor, "images ..."]) -> Mapping[str, Tensor]:
    with _Captured(weights) as captured:
        design(weights, images)
    inputs: Mapping[str, Tensor] = captured.inputs
    return inputs
