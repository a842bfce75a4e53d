"""The gain of matching unit i of the reference with unit j of the moving network, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.aligners.products import Products
from deepalign_cli.aligners.steps import Matrices, Step, best_step, signed_step
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.sums import inner_product, squared_norm
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_narrow, is_trained, widened

Counted = Callable[[str, Tensor], bool]  # whether a tensor counts in the objective

_KEEP_BYTES = 2**28 + 2**20  # gains are kept between sweeps only up to this size
_MOST_UPDATES = 8  # before they are computed whole again, lest rounding adds up
_WORTHWHILE = 0.6  # of the units may have moved for an update to be cheaper


class Gains:
    """The matching problem of two networks: its objective is sum_t <A_t, (g B)_t>.

    Of biases whose phases may move it has (|B_t|^2 - |(g B)_t|^2) / 2, too, since half turns change their
    size. With `shifts` False phases stay as they are, and those of biases narrower than float32 always do:
    half a turn would be rounded, and a sine of high frequency would be another function.

    Tensors are read from the mappings when they are needed and not kept. Gains are taken in the frame
    of the current element, so that the identity is always the step that changes nothing.
    """

    def __init__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, counted: Counted = is_trained,
        shifts: bool = True,
    ) -> None:  # fmt: skip
        self.symmetry, self.reference, self.moving = symmetry, reference, moving
        self._counted = counted
        self.names = {g: self._tensors(g) for g in symmetry.sizes}
        self.neighbours = {
            g: {h for name in names for h in symmetry.groups_of(name)} - {g}
            for g, names in self.names.items()
        }
        self._keeps = sum(8 * n * n for n in symmetry.sizes.values()) <= _KEEP_BYTES
        self._kept: dict[str, Matrices] = {}
        self.add_product = Products().add
        self._known: tuple[Element, float] | None = None  # the last objective
        self._energies: dict[str, tuple[float, float]] = {}
        biases = symmetry.phases.biases.items() if shifts else ()
        self.phased = {
            group: bias for group, bias in biases if bias in self.names[group] and not is_narrow(moving[bias])
        }

    def matrices(self, group: str, g: Element) -> Matrices:
        """The gains of `group` under `g`, from all tensors that it moves.

        They are brought up to date from the last ones where that is cheaper.
        """
        kept = self._kept.pop(group, None)
        found = (kept and update(self, group, kept, g)) or self._fresh(group, g)
        if self._keeps:
            self._kept[group] = found
        return found

    def partial(self, group: str, g: Element, names: Iterable[str]) -> Matrices:
        """The gains of `group` under `g` from some tensors only."""
        return self._fresh(group, g, names)

    def acted(self, name: str, g: Element) -> tuple[Float[Tensor, " ..."], Float[Tensor, " ..."]]:
        """The reference's tensor and the moving one's under `g`, in one type."""
        a, b = map(widened, self.pair(name, g))
        dtype = torch.promote_types(a.dtype, b.dtype)
        return a.to(dtype), b.to(dtype)

    def pair(self, name: str, g: Element) -> tuple[Float[Tensor, " ..."], Float[Tensor, " ..."]]:
        """The same in the types in which they are stored, where `g` only moves entries."""
        symmetry, b = self.symmetry, self.moving[name]
        if symmetry.turns(g, name):
            return self.reference[name], symmetry.act(g, name, widened(b))
        move = symmetry.move(g, name)
        return self.reference[name], move(widened(b) if move.rounds else b)

    def _fresh(self, group: str, g: Element, names: Iterable[str] | None = None) -> Matrices:
        parts: dict[bool, Tensor | None] = {False: None, True: None}
        for name in self.names[group] if names is None else names:
            a, b = self.pair(name, g)
            for place in self.symmetry.occurrences[group]:
                if place.name == name:
                    rows = self.symmetry.unfold(place, a), self.symmetry.unfold(place, b)
                    parts[place.flips] = self.add_product(parts[place.flips], *rows)
        plain, flipping = parts[False], parts[True]
        if plain is None:
            plain = (
                torch.zeros_like(flipping)
                if flipping is not None
                else torch.zeros([self.symmetry.sizes[group]] * 2)
            )
        return Matrices(plain, flipping, g)

    def best_step(self, group: str, g: Element) -> Step:
        """The best relative move of one group while all others stay."""
        return self._phase_step(group, g) if group in self.phased else best_step(self.matrices(group, g))

    def _phase_step(self, group: str, g: Element) -> Step:
        """The best move of units whose phase may move, so that makers and readers have signs of their own."""
        phases, bias = self.symmetry.phases, self.phased[group]
        others = [name for name in self.names[group] if name != bias]
        readers = [name for name in others if phases.flips(group, name)]
        makers = self._fresh(group, g, [name for name in others if name not in readers])
        read = self._fresh(group, g, readers).flipping
        a, b = self.acted(bias, g)
        plain, made = makers.plain.double(), 0 if makers.flipping is None else makers.flipping.double()
        return signed_step(
            plain, made, 0 if read is None else read.double(), (a, b), phases.half_turns[group]
        )

    def objective(self, g: Element, group: str | None = None) -> float:
        """The objective under `g`, over all moved tensors or those that `group` moves."""
        if group is not None:
            return self._objective(g, self.names[group])
        if self._known is None or self._known[0] is not g:
            names = dict.fromkeys(n for names in self.names.values() for n in names)
            self._known = g, self._objective(g, names)
        return self._known[1]

    def _objective(self, g: Element, names: Iterable[str]) -> float:
        total = 0.0
        for name in names:
            a, b = self.pair(name, g)
            total += inner_product(a, b)
            if name in self.phased.values():
                total += (squared_norm(self.moving[name]) - squared_norm(b)) / 2
        return total

    @cached_property
    def energies(self) -> tuple[float, float]:
        """|A|^2 and |B|^2 over the moved tensors."""
        names = dict.fromkeys(n for names in self.names.values() for n in names)
        pairs = [self.energy_of(name) for name in names]
        return sum(a for a, _ in pairs), sum(b for _, b in pairs)

    def energy_of(self, name: str) -> tuple[float, float]:
        """The squared norms of a tensor of both networks; each is taken once."""
        if name not in self._energies:
            both = self.reference[name], self.moving[name]
            self._energies[name] = squared_norm(both[0]), squared_norm(both[1])
        return self._energies[name]

    @property
    def energy(self) -> float:
        """|A|^2 + |B|^2: the squared distance under g is this less twice the objective."""
        return sum(self.energies)

    @property
    def scale(self) -> float:
        """|A| |B|: the largest value that the objective can take."""
        return math.sqrt(self.energies[0] * self.energies[1])

    def is_linear(self, group: str) -> bool:
        """Whether no tensor carries the group twice, so that a step's rise is exact."""
        places = self.symmetry.occurrences[group]
        return len({place.name for place in places}) == len(places)

    def _tensors(self, group: str) -> tuple[str, ...]:
        names = dict.fromkeys(place.name for place in self.symmetry.occurrences[group])
        return tuple(name for name in names if self._counted(name, self.moving[name]))


def update(problem: Gains, group: str, kept: Matrices, g: Element) -> Matrices | None:
    """The gains under `g` from those under an earlier element, or None where that saves nothing.

    Only the columns of the units that neighbours have moved since are multiplied anew, which late in
    a descent are few.
    """
    symmetry, old = problem.symmetry, kept.element
    if symmetry.phases:
        return None
    if symmetry.within and any(old.turn.get(h) is not g.turn.get(h) for h in problem.neighbours[group]):
        return None
    permuted = problem.neighbours[group] - symmetry.within.keys()
    changed = {h: c for h in permuted if len(c := _changed(old, g, h))}
    cost = sum(len(c) / symmetry.sizes[h] for h, c in changed.items())
    if (
        kept.age >= _MOST_UPDATES
        or cost > _WORTHWHILE * len(changed)
        or not _is_simple(problem, group, changed)
    ):
        return None
    # Everything is brought into the own group's present frame first: columns of B's units move.
    relative = torch.argsort(old.perm[group])[g.perm[group]]
    parts = [None if m is None else m[:, relative] for m in (kept.plain, kept.flipping)]
    if parts[1] is not None:
        one = torch.ones(symmetry.sizes[group], dtype=torch.float64)
        turned = g.scale.get(group, one) * old.scale.get(group, one)[relative]
        parts[1] = parts[1] * turned.to(parts[1].dtype)
    for h, units in changed.items():
        steps = _only_units(g, old, h, units), _only_units(g, g, h, units)
        for name in problem.names[group]:
            if h in symmetry.groups_of(name):
                _add_difference(problem, group, name, (h, units), steps, parts)
    assert parts[0] is not None
    return Matrices(parts[0], parts[1], g, kept.age + 1)


def _add_difference(
    problem: Gains,
    group: str,
    name: str,
    units: tuple[str, Tensor],
    steps: tuple[Element, Element],
    parts: list[Tensor | None],
) -> None:
    """Take some units' entries off the gains as they were, and put them on as they are.

    `steps` are the elements before and after, with only these units on the axis of their group.
    """
    symmetry = problem.symmetry
    place, own = (next(o for o in symmetry.occurrences[h] if o.name == name) for h in (units[0], group))
    places = place.block.places().index_select(place.number, units[1]).flatten()
    a, b = widened(problem.reference[name]).index_select(place.axis, places), widened(problem.moving[name])
    difference = symmetry.act(steps[1], name, b) - symmetry.act(steps[0], name, b)
    dtype = torch.promote_types(a.dtype, b.dtype)
    rows = (symmetry.unfold(own, w.to(dtype)) for w in (a, difference))
    parts[own.flips] = problem.add_product(parts[own.flips], *rows)


def _changed(old: Element, new: Element, h: str) -> Int64[Tensor, " m"]:
    moved = old.perm[h] != new.perm[h]
    if h in old.scale or h in new.scale:
        one = torch.ones(len(moved), dtype=torch.float64)
        moved |= old.scale.get(h, one) != new.scale.get(h, one)
    return moved.nonzero().flatten()


def _only_units(g: Element, source: Element, h: str, units: Tensor) -> Element:
    """The element g with the group h as in `source`, cut down to some places."""
    scale = {k: v for k, v in g.scale.items() if k != h}
    if h in source.scale:
        scale[h] = source.scale[h][units]
    return Element({**g.perm, h: source.perm[h][units]}, scale, g.turn)


def _is_simple(problem: Gains, group: str, changed: Iterable[str]) -> bool:
    """Whether every tensor that ties the group to a changed one has each once, on an axis of its own."""
    symmetry, moved = problem.symmetry, set(changed)
    for name in problem.names[group]:
        axes = [tuple(axis.groups()) for axis in symmetry.spec.axes[name]]
        met = [h for axis in axes for h in axis if h in moved]
        if met and not (len(met) == 1 and axes.count((met[0],)) == 1 and axes.count((group,)) == 1):
            return False
        if met and any(len(parts) > 1 for parts in symmetry.blocks[name]):
            return False
    return True
