"""One network as the learned aligner reads it: every unit's directions, one sketch after another.

Two networks that are nearly equal up to the order of their units show it under a single sketch, and two
others do not, however many are read. So a pair is read under one sketch, and under all of them if that has
not told its units apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.pair import scales_of
from deepalign_cli.models.on_device import CPU
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.responses import Responses, can_respond, convolves, responses
from deepalign_cli.network.signs import canonical_signs
from deepalign_cli.network.similarity import directions, spread
from deepalign_cli.network.sketches import Sketches
from deepalign_cli.network.stacked import stacked
from deepalign_cli.network.universal import Features
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import widened

Similarity = Mapping[str, Float[Tensor, "_ _"]]
Block = Mapping[str, Float[Tensor, "_ columns"]]

_UNITS_AT_ONCE = 2**17  # read under several sketches at once
_MOST_UNITS = 2**15  # whose directions are kept in full precision
_MOST_KEPT = 2**23  # similarities
_CLEAR = 0.99  # of a group's units


class Sketched:
    """Every unit's directions in one network, under the first `count` of some sketches, read on a device."""

    def __init__(
        self, network: DeepAlign, graph: Graph, weights: Weights, sketches: Sketches,
        device: torch.device = CPU,
    ) -> None:  # fmt: skip
        self.graph, self.sketches, self.count = graph, sketches, 0
        self.blocks: list[Block] = []  # one for each call of `read`
        self._network, self._device = network, device
        self._stack = stacked(graph, Acted(graph.symmetry, scales_of(graph.symmetry, weights), weights))
        self._read: Callable[[Sketches], Features] | None = None

    @cached_property
    def responses(self) -> Responses | None:
        """What the units say of noise; nothing where the graph tells too little, or where it does not help.

        Without convolutions, in networks of which the aligner has seen most, its prediction is as good alone.
        """
        if not (convolves(self.graph) and can_respond(self.graph)):
            return None
        return responses(self.graph, self._stack, self.sketches.seeds[0])

    @torch.no_grad()
    def read(self, stop: int, progress: Progress = SILENT) -> None:
        """Read on up to `stop` sketches; the directions of large networks are kept in half precision."""
        start, self.count = self.count, max(self.count, stop)
        if start >= stop or not self.graph.names:
            return
        self._network.to(self._device, self._stack[self.graph.names[0]].dtype)
        units, block = sum(self.graph.symmetry.sizes.values()), None
        at_once = 1 if self.graph.symmetry.turning else max(1, _UNITS_AT_ONCE // units)
        for first in range(start, stop, at_once):
            features = self._features(first, min(first + at_once, stop))
            block = block or _room(features, stop - start)
            for group, x in features.items():
                columns, place = directions(widened(x)).movedim(0, 1).flatten(1), (first - start) * x.shape[2]
                block[group][:, place : place + columns.shape[1]] = columns
            progress(min(at_once, stop - first))
            del features
        if block is not None:
            self.blocks.append(block)

    def _features(self, start: int, stop: int) -> Features:
        sketches = self.sketches.part(start, stop)
        if self.graph.symmetry.turning:  # every sketch has signs of its own
            return self._network.reader(self.graph, self._placed(self._canonical(start)))(sketches)
        self._read = self._read or self._network.reader(self.graph, self._placed(self._stack))
        return self._read(sketches)

    def _placed(self, stack: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return Lazy(stack, lambda name: stack[name].to(self._device))

    def _canonical(self, number: int) -> Mapping[str, Float[Tensor, "1 ..."]]:
        """The network under the canonical signs of a sketch."""
        one = Lazy(self._stack, lambda name: self._stack[name][0])
        signs = canonical_signs(self.graph, one, self.sketches.seeds[number])
        view = Acted(self.graph.symmetry, signs, one)
        return Lazy(self._stack, lambda name: view[name].unsqueeze(0))


def compared(own: Sketched, other: Sketched) -> Similarity:
    """The mean over the sketches that both have read of every group's similarities.

    Those of large networks are made each time they are asked for.
    """
    sizes, count = own.graph.symmetry.sizes, min(own.count, other.count)
    blocks = list(zip(own.blocks, other.blocks, strict=False))

    def product(group: str) -> Float[Tensor, "n n"]:
        """The product a b^T, in float32 at least."""
        first, *others = (_product(a[group], b[group]) for a, b in blocks)
        for other in others:
            first += other
        return first.div_(count).cpu()

    return Lazy(sizes if blocks else (), product, keeps=_are_kept(own.graph))


def with_responses(own: Sketched, other: Sketched, similarity: Similarity) -> Similarity:
    """Similarities with how alike units respond to noise, and how alike outputs depend on them, beside them.

    The three count alike; together they vary as much as the prediction alone. Without responses, as it is.
    """
    a, b = own.responses, other.responses
    if a is None or b is None:
        return similarity

    def product(group: str) -> Float[Tensor, "n n"]:
        alone = similarity[group]
        total = spread(alone)
        for said, by_other in ((a.onward, b.onward), (a.back, b.back)):
            if group in said and group in by_other:
                total = total + spread(said[group] @ by_other[group].T).to(total)
        made: Tensor = spread(total) * alone.std(correction=0)
        return made

    return Lazy(similarity, product, keeps=_are_kept(own.graph))


def _are_kept(graph: Graph) -> bool:
    """Whether the similarities of all groups together are kept once they are made."""
    return sum(n * n for n in graph.symmetry.sizes.values()) <= _MOST_KEPT


def _product(a: Float[Tensor, "n columns"], b: Float[Tensor, "n columns"]) -> Float[Tensor, "n n"]:
    """The product a b^T, as float32 at least. What can be read fast in bfloat16 is multiplied fast in it."""
    if a.dtype is b.dtype is torch.bfloat16:
        return widened(a @ b.T)
    return widened(a) @ widened(b).T


def is_clear(similarity: Similarity) -> bool:
    """Whether in every group nearly all units of the two networks are each other's nearest.

    So it is where one is nearly a copy of the other; of trained networks half of the units are not.
    """
    for similar in similarity.values():
        best, nearest = similar.max(1)
        mutual = nearest[best >= similar.amax(0)[nearest]]  # where each was nearest takes ten times as long
        if len(set(mutual.tolist())) < _CLEAR * len(nearest):
            return False
    return True


def _room(features: Features, sketches: int) -> Block:
    """Room for the directions of all groups: one tensor, since many smaller ones leave holes in memory."""
    sizes, x = [f.shape[1] for f in features.values()], next(iter(features.values()))
    dtype = torch.float16 if sum(sizes) > _MOST_UNITS and x.itemsize > 2 else x.dtype
    room = torch.split(x.new_empty(sum(sizes), sketches * x.shape[2], dtype=dtype), sizes)
    return dict(zip(features, room, strict=True))
