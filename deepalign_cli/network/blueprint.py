"""The one architecture that a metanetwork reads and an autoencoder writes, taken from a symmetry.

Names mean nothing in it: two checkpoints have the same blueprint where their layers, in order, have the
same shapes and their units the same kinds of symmetry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from deepalign_cli.errors import MismatchError
from deepalign_cli.network.graph import Edge, Ends, Graph, Vector
from deepalign_cli.symmetry.kinds import PERMUTATION, Kind
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

_NORMS = ("weight", "running_mean", "running_var")
_HINT = "metanetworks read networks of linear and convolution layers with biases, without norms."
_ACTIVATIONS = {"sign": "tanh or sin", "scale": "relu or leaky_relu"}


@dataclass(frozen=True)
class Link:
    """A weight between two sets of nodes: groups by their names, labelled ends as `<` or `>` and its name."""

    edge: Edge
    source: str
    target: str

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.edge.cell.name

    @property
    def entries(self) -> int:
        """How many numbers tie one source to one target: 9 of a 3 x 3 convolution."""
        return math.prod(self.edge.grid)


class Blueprint:
    """The nodes, links and biases of an architecture, in the order from the inputs to the outputs.

    `labels` are the sizes of the labelled ends, `output_biases` the names of their biases, which no group
    moves; `shapes` are those of all tensors that are read, in order.

    Raises:
        MismatchError: there is a norm, a group whose units mix, or something else that is not read.
    """

    def __init__(self, symmetry: Symmetry) -> None:
        self.symmetry, self.graph = symmetry, Graph(symmetry)
        self.links = tuple(_link(edge) for edge in sorted(self.graph.edges, key=self._place))
        self.biases: Mapping[str, tuple[Vector, ...]] = {
            g: tuple(v for v in self.graph.vectors if v.group == g) for g in symmetry.sizes
        }
        ends = [(link.source, link.edge.sizes[1]) for link in self.links if link.source.startswith("<")]
        ends += [(link.target, link.edge.sizes[0]) for link in self.links if link.target.startswith(">")]
        self.labels: Mapping[str, int] = dict(ends)
        self.output_biases = self._output_biases()
        self._check()
        self.shapes: Mapping[str, tuple[int, ...]] = {n: symmetry.shapes[n] for n in self._names()}

    def __str__(self) -> str:
        sizes = [link.edge.sizes[1] for link in self.links[:1]] + [link.edge.sizes[0] for link in self.links]
        words = "-".join(map(str, sizes))
        kinds = {str(self.kind(g)) for g in self.symmetry.sizes} - {str(PERMUTATION)}
        kernels = sorted({"x".join(map(str, link.edge.grid)) for link in self.links if link.entries > 1})
        about = [
            *(f"{k} convolutions" for k in kernels),
            *(f"a {kind} for each unit" for kind in sorted(kinds)),
        ]
        return f"{words} ({', '.join(about)})" if about else words

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, nearest to the inputs first."""
        return tuple(sorted(self.symmetry.sizes, key=self.graph.depth.__getitem__))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The labelled ends that something writes."""
        return tuple(end for end in self.labels if end.startswith(">"))

    def kind(self, group: str) -> Kind:
        """What a group's units may do besides changing places."""
        return self.symmetry.kinds[group]

    def matrix(self, link: Link, weights: Weights) -> Float[Tensor, "batch target source entries"]:
        """A link's entries in a stack of networks."""
        return link.edge.matrix(weights[link.name])

    def bias(self, vector: Vector, weights: Weights) -> Float[Tensor, "batch n 1"]:
        """A bias of a stack of networks."""
        return vector.cell.block(weights[vector.cell.name]).flatten(1).unsqueeze(-1)

    def output_bias(self, end: str, weights: Weights) -> Float[Tensor, "batch n 1"]:
        """The bias of an output in a stack of networks; of one that is read at several places, at each."""
        b = weights[self.output_biases[end]]
        return b.repeat_interleave(self.labels[end] // b.shape[1], dim=1).unsqueeze(-1)

    def names_in(self, symmetry: Symmetry) -> dict[str, str]:
        """The name that each tensor of this architecture has in the checkpoints of another symmetry.

        Raises:
            MismatchError: those are of another architecture, or not known to be of this one.
        """
        try:
            other = Blueprint(symmetry)
        except MismatchError as error:
            raise MismatchError(f"this autoencoder is for networks {self}: {error.message}", _HINT) from None
        if self._signature() != other._signature():
            raise MismatchError(
                f"this autoencoder is for networks {self}, and this one is {other}.",
                "train one for this architecture: docs/training.md.",
            )
        pairs = dict(zip(self.groups, other.groups, strict=True))
        for group, theirs in pairs.items():
            self._check_kind(self.kind(group), other, theirs)
        return dict(zip(self.shapes, other.shapes, strict=True))

    def is_shaped_as(self, symmetry: Symmetry) -> bool:
        """Whether networks of a symmetry have the same layers, whatever else their units may do."""
        try:
            return self._signature() == Blueprint(symmetry)._signature()
        except MismatchError:
            return False

    @property
    def activations(self) -> str:
        """In words, which activation leaves its units what they may do."""
        kinds = {self.kind(g).name for g in self.symmetry.sizes}
        return " and ".join(_ACTIVATIONS.get(kind, kind) for kind in sorted(kinds))

    def _check_kind(self, kind: Kind, other: Blueprint, group: str) -> None:
        found, spec = other.kind(group), other.symmetry.spec
        if found == kind or (found == PERMUTATION and spec.basis.knows_marks and group in spec.allowed(kind)):
            return
        ours, theirs = (f"a {k}" if k.multiplies else "neither sign nor scale" for k in (kind, found))
        wanted = _ACTIVATIONS.get(kind.name, kind.name)
        raise MismatchError(
            f"this autoencoder is for networks whose units have {ours}; those of '{group}' have {theirs}.",
            f"if the activation is {wanted}, say so: {_told(wanted)}.",
        )

    def _place(self, edge: Edge) -> tuple[int, int]:
        depth, last = self.graph.depth, len(self.graph.depth) + 1
        return depth[edge.target] if edge.target else last, depth[edge.source] if edge.source else 0

    def _names(self) -> Iterator[str]:
        """The tensors, a layer's weight before its bias."""
        told: set[str] = set()
        for link in self.links:
            yield link.name
            if link.target in told:
                continue
            told.add(link.target)
            yield from (vector.cell.name for vector in self.biases.get(link.target, ()))
            yield from (name for end, name in self.output_biases.items() if end == link.target)

    def _output_biases(self) -> dict[str, str]:
        moved = {link.name for link in self.links} | {v.cell.name for v in self.graph.vectors}
        still = [n for n, shape in self.symmetry.shapes.items() if n not in moved and shape]
        found: dict[str, str] = {}
        for end in self.labels:
            fits = [n for n in still if self._is_bias_of(end, n)]
            if end.startswith(">") and len(fits) == 1:
                found[end] = still.pop(still.index(fits[0]))
        if still:
            raise MismatchError(f"'{still[0]}' is not a weight or a bias that it reads.", _HINT)
        return found

    def _is_bias_of(self, end: str, name: str) -> bool:
        shape = self.symmetry.shapes[name]
        return len(shape) == 1 and shape[0] > 0 and self.labels[end] % shape[0] == 0

    def _check(self) -> None:
        for vector in self.graph.vectors:
            if vector.role in _NORMS:
                raise MismatchError(f"'{vector.cell.name}' belongs to a norm, which it does not read.", _HINT)
            kind, (unit,) = self.kind(vector.group), (f for f in vector.cell.factors if f.group)
            whole = unit.size == math.prod(self.symmetry.shapes[vector.cell.name])
            if not whole or (unit.flips, unit.exponent) != (kind.turns, int(kind.stretches)):
                raise MismatchError(f"'{vector.cell.name}' is not a bias of one layer.", _HINT)
        for group, kind in self.symmetry.kinds.items():
            if kind.mixes:
                raise MismatchError(f"the units of '{group}' turn into one another.", _HINT)
        for link in self.links:
            whole = math.prod(link.edge.sizes) * link.entries == math.prod(self.symmetry.shapes[link.name])
            if not whole or not self._is_towards(link):
                raise MismatchError(f"'{link.name}' is not a weight from one layer to the next.", _HINT)
        names = [link.name for link in self.links]
        if not names or len(set(names)) < len(names):
            raise MismatchError("it is not a network of layers that each have one weight.", _HINT)

    def _is_towards(self, link: Link) -> bool:
        """Whether entries grow with the target's scale and shrink with the source's, and turn with both."""
        flips, powers = [], []
        for end, sign in ((link.target, 1), (link.source, -1)):
            kind = self.symmetry.kinds.get(end, PERMUTATION)
            flips.append(kind.turns)
            powers.append(sign if kind.stretches else 0)
        return link.edge.flips == tuple(flips) and link.edge.exponents == tuple(powers)

    def _signature(self) -> list[tuple[object, ...]]:
        """What is the same in all checkpoints of this architecture, whatever their tensors are called."""
        number = {g: i for i, g in enumerate(self.groups)}
        links = [
            (
                link.edge.ends,
                number.get(link.target),
                number.get(link.source),
                link.edge.sizes,
                link.edge.grid,
            )
            for link in self.links
        ]
        return [*links, *((len(shape), shape) for shape in self.shapes.values())]


def _told(activations: str) -> str:
    """What to type for one of the activations."""
    return " or ".join(f"--activation {name}" for name in activations.split(" or "))


def _link(edge: Edge) -> Link:
    name = edge.cell.name
    return Link(
        edge, edge.source if edge.ends is not Ends.INPUTS else f"<{name}",
        edge.target if edge.ends is not Ends.OUTPUTS else f">{name}",
    )  # fmt: skip
