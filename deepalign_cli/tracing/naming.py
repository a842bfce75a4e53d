"""Names of groups: the module that writes a group's units, and the part that they play there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deepalign_cli.tracing.expressions import Concatenation, Expression, Product, Units, Variable

_STREAM = 5  # tensors of two axes or more that a group is on, from which it is called a stream


@dataclass
class _Seen:
    """Where a group stands: tensors in order, and whether before or behind others in a product."""

    names: list[str] = field(default_factory=list)
    matrices: set[str] = field(default_factory=set)
    is_outer: bool = False
    is_inner: bool = False
    beside: set[Variable] = field(default_factory=set)
    writers: int = 0

    @property
    def is_twice(self) -> bool:
        """Whether a matrix holds it twice, or two matrices write it: queries and keys."""
        counts = Counter(name for name in self.names if name in self.matrices)
        return self.writers > 1 or max(counts.values(), default=0) > 1


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
          outer: tuple[Variable, ...] = (), *, inner: bool = False) -> None:  # fmt: skip
    if isinstance(e, Units):
        seen = places.setdefault(e.variable, _Seen())
        seen.names.append(name)
        seen.matrices.update([name] if rank > 1 else [])
        seen.writers += writes and rank > 1
        seen.beside.update(outer)
        seen.is_inner |= inner
        for variable in outer:
            places[variable].is_outer = True
    elif isinstance(e, Concatenation):
        for part in e.parts:
            _look(part, name, rank, writes, places, outer, inner=inner)
    elif isinstance(e, Product):
        for i, part in enumerate(e.parts):
            _look(part, name, rank, writes, places, outer, inner=inner or i > 0)
            if isinstance(part, Units):
                outer = (*outer, part.variable)
                places[part.variable].is_outer |= i == 0 and _is_attention(places[part.variable])


def _stem(seen: _Seen, places: Mapping[Variable, _Seen]) -> str:
    module = seen.names[0].rpartition(".")[0] or seen.names[0]
    if _is_attention(seen) and (seen.is_outer or seen.is_inner):
        if seen.is_outer:
            return _word(_parent(module), "queries" if seen.is_inner else "heads")
        return _word(_parent(module), "qk" if seen.is_twice else "vo")
    if seen.is_outer or seen.beside:
        return _word(module, "blocks" if seen.is_outer else "within")
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
