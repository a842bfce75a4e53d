"""Names of groups: the module that writes a group's units, and the part that they play there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deepalign_cli.tracing.expressions import Concatenation, Expression, Fixed, Product, Units, Variable

_STREAM = 5  # tensors of two axes or more that a group is on, from which it is called a stream


@dataclass
class _Seen:
    """Where a group stands: tensors in order, whether as blocks, and how often on one axis."""

    names: list[str] = field(default_factory=list)
    matrices: set[str] = field(default_factory=set)
    is_outer: bool = False
    beside: set[Variable] = field(default_factory=set)
    writers: int = 0


def named_groups(tensors: Mapping[str, Sequence[Expression]]) -> dict[Variable, str]:
    """A name for every group on these axes, in the order in which they first stand there."""
    places: dict[Variable, _Seen] = {}
    for name, axes in tensors.items():
        for number, e in enumerate(axes):
            _look(e, name, len(axes), number == 0, places)
    names: dict[Variable, str] = {}
    taken: set[str] = set()
    for variable, seen in places.items():
        stem = _stem(seen, places)
        name, count = stem, 2
        while name in taken:
            name, count = f"{stem}.{count}", count + 1
        taken.add(name)
        names[variable] = name
    return names


def _look(e: Expression, name: str, rank: int, writes: bool, places: dict[Variable, _Seen],
          outer: tuple[Variable, ...] = ()) -> None:  # fmt: skip
    if isinstance(e, Units):
        seen = places.setdefault(e.variable, _Seen())
        seen.names.append(name)
        seen.matrices.update([name] if rank > 1 else [])
        seen.writers += writes and rank > 1
        seen.beside.update(outer)
        for variable in outer:
            places[variable].is_outer = True
    elif isinstance(e, Concatenation):
        for part in e.parts:
            _look(part, name, rank, writes, places, outer)
    elif isinstance(e, Product):
        for part in e.parts:
            _look(part, name, rank, writes, places, outer)
            outer = (*outer, part.variable) if isinstance(part, Units) else outer


def _stem(seen: _Seen, places: Mapping[Variable, _Seen]) -> str:
    first = seen.names[0]
    module = first.rpartition(".")[0] or first
    if seen.is_outer:
        return _word(_parent(module), "heads" if _is_attention(seen) else "blocks")
    if seen.beside:
        role = ("qk" if seen.writers > 1 else "vo") if _is_attention(seen) else "within"
        return _word(_parent(module), role)
    if len(seen.matrices) >= _STREAM:
        return _word(_common(seen.names), "stream")
    return _word(module)


def _is_attention(seen: _Seen) -> bool:
    return any(re.search(r"att|heads|qkv|query|q_proj|in_proj|c_attn", name.lower()) for name in seen.names)


def _common(names: Sequence[str]) -> str:
    """The modules that all tensors stand in."""
    paths = [name.split(".")[:-1] for name in names]
    shared = []
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _word(path: str, role: str = "") -> str:
    """A path and a role as a group's name."""
    text = re.sub(r"[^\w.]", "_", ".".join(filter(None, (path, role))), flags=re.ASCII)
    return text if re.match(r"[A-Za-z_]", text) else f"g{text}"


def is_labelled(e: Expression) -> bool:
    """Whether no unit stands in a resolved expression."""
    if isinstance(e, Units):
        return False
    return isinstance(e, Fixed) or all(map(is_labelled, e.parts))
