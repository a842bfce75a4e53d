"""Numbers that rotary positions leave of queries and keys, as groups that may turn in the positions' planes.

The walk knows no group that rotary positions commute with, so the dimensions of queries and keys are plain
numbers: `heads*8` in matrices of their own, `heads*(2|qk|2|qk|vo)` fused by head where only a part is turned
by positions, `heads*(16|vo)` where queries and keys stand side by side, `8` of keys that all heads share, and
of an attention of one head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from deepalign_cli.symmetry.axes import Atom, Axes, Axis, Term
from deepalign_cli.symmetry.kinds import HALF_TURNS, ROTARY, Kind
from deepalign_cli.symmetry.spec import Spec

Shapes = Mapping[str, tuple[int, ...]]
_HEADS = re.compile(r"(?:^|(?<=\.))heads(?=(?:\.\d+)?$)")
_ATTENTION = re.compile(r"att|heads|qkv|query|q_proj|in_proj|c_attn")


def is_heads(name: str) -> bool:
    """Whether a group's name says that its units are heads."""
    return bool(_HEADS.search(name))


@dataclass(frozen=True)
class _Place:
    """A number that is last in a product, behind `heads` if there are any, on an axis of a tensor.

    It `is_lonely` where it is the only number of a sum, and may be that of queries and keys together.
    """

    tensor: str
    axis: int
    heads: str
    size: int
    is_lonely: bool

    @property
    def owner(self) -> str:
        """The modules of the attention."""
        return _owner(self.heads) if self.heads else _module(_module(self.tensor))


Groups = Callable[[_Place], tuple[str, ...]]  # one in the place of a number, or two of half the size, or none


def with_rotary_groups(spec: Spec, shapes: Shapes, barred: Mapping[str, Kind | None]) -> Spec:
    """The spec in which such numbers are groups, but for those that are barred altogether.

    Behind a norm of queries and keys they make half turns alone, which its gains allow.
    """
    whole = {n: spec.axes.get(n) or _numbers(shape) for n, shape in shapes.items() if 0 not in shape}
    matrices = {_module(name) for name, axes in whole.items() if len(axes) > 1}
    groups: dict[_Place, tuple[str, ...]] = {}
    kinds: dict[str, Kind] = {}
    for places, times in _attentions(whole, spec, matrices):
        name = _free_name(places[0], {*spec.groups(), *kinds})
        normed = any(_module(p.tensor) not in matrices for p in _vectors(whole, places[0]))
        kind = barred.get(name, HALF_TURNS if normed else ROTARY)
        if kind is not None:
            kinds[name] = kind
            groups |= dict.fromkeys(places, (name,) * times)

    def named(place: _Place) -> tuple[str, ...]:
        return groups.get(place, ())

    found = {name: _renumbered(name, axes, named) for name, axes in whole.items()}
    moving = {name: axes for name, axes in found.items() if any(True for a in axes for _ in a.groups())}
    return replace(spec, axes=moving, kinds={**spec.kinds, **kinds})


def _attentions(
    whole: Mapping[str, Axes], spec: Spec, matrices: set[str]
) -> Iterator[tuple[list[_Place], int]]:
    """The places of every number that queries and keys share, and how many of them stand in each.

    They are behind the same heads, or in no heads' product. Of one matrix with queries alone behind heads the
    keys are elsewhere: for all heads together.
    """
    places = [place for name, axes in whole.items() for place in _places(name, axes)]
    busy = {_owner(group) for group in spec.groups() if is_heads(group)}
    alike: dict[tuple[str, str, int], list[_Place]] = {}
    for place in places:
        if place.heads or (place.axis == 0 and _module(place.tensor) in matrices):
            alike.setdefault((place.owner, place.heads, place.size), []).append(place)
    for (owner, heads, size), those in alike.items():
        count = sum(len(whole[place.tensor]) > 1 for place in those)
        bare = alike.get((owner, "", size), []) if heads else []
        is_attention = heads or (owner not in busy and _ATTENTION.search(those[0].tensor.lower()))
        if count == 1 and not bare and is_attention and size % 4 == 0 and all(p.is_lonely for p in those):
            yield those, 2
        elif size % 2 == 0 and ((heads and count > 1) or (count == 1 and bare)):
            yield those + (bare if count == 1 else []), 1
        elif size % 2 == 0 and not heads and is_attention and count == 2:
            yield those, 1


def _places(name: str, axes: Axes) -> list[_Place]:
    """The numbers that are last in products on a tensor's axes."""
    found: list[_Place] = []

    def seen(place: _Place) -> tuple[str, ...]:
        found.append(place)
        return ()

    _renumbered(name, axes, seen)
    return found


def _renumbered(tensor: str, axes: Axes, groups: Groups) -> Axes:
    """A tensor's axes in which last numbers of products are groups, where there are any."""

    def of(axis: Axis, number: int, outer: str) -> Axis:
        numbers = [term for term in axis.terms if isinstance(term[-1], Atom) and not term[-1].name]
        is_lonely = len(numbers) == 1 and len(axis.terms) > 1
        terms: list[Term] = []
        for term in axis.terms:
            heads = next((f.name for f in reversed(term) if isinstance(f, Atom) and is_heads(f.name)), outer)
            last = term[-1]
            if isinstance(last, Axis):
                terms.append((*term[:-1], of(last, number, heads)))
                continue
            names = () if last.name else groups(_Place(tensor, number, heads, last.size, is_lonely))
            terms += [(*term[:-1], Atom(name)) for name in names] or [term]
        return Axis(tuple(terms))

    return tuple(of(axis, number, "") for number, axis in enumerate(axes))


def _vectors(whole: Mapping[str, Axes], first: _Place) -> Iterator[_Place]:
    """The places of an attention's number in vectors: biases, or gains of norms."""
    for name, axes in whole.items():
        if len(axes) == 1 and (name.startswith(f"{first.owner}.") or not first.owner):
            yield from (place for place in _places(name, axes) if place.size == first.size)


def _free_name(place: _Place, taken: set[str]) -> str:
    names = (_HEADS.sub(word, place.heads) for word in ("qk", "rotary"))
    if not place.heads:
        names = (".".join(filter(None, (place.owner, word))) for word in ("qk", "rotary"))
    first, second = names
    name = first if first not in taken else second
    return name if name not in taken else f"{name}{place.size}"


def _owner(heads: str) -> str:
    match = _HEADS.search(heads)
    return heads[: match.start()].rstrip(".") if match else ""


def _numbers(shape: tuple[int, ...]) -> Axes:
    return tuple(Axis(((Atom(size=n),),)) for n in shape)


def _module(name: str) -> str:
    """What a tensor, or a module, stands in."""
    return name.rpartition(".")[0]
