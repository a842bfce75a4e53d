"""Files that hold several networks side by side: towers, experts, an actor and a critic.

Parts that stand beside one another are never put in one line because their widths fit. Each is read on its
own, with labelled inputs and outputs: its inner units move, which is exact whether parts run in parallel,
in a line, or around a skip connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from deepalign_cli.symmetry.axes import Atom, Axes, Axis
from deepalign_cli.symmetry.families.words import LISTS, PARALLEL, SEQUENTIAL, tokens
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import group_name, parent, pieces, stands_before

Match = Callable[[Layout], Spec | None]
Siblings = Callable[[list[str], Mapping[str, Module], str], list[str]]


def match(layout: Layout, read: Match, *, by_likeness: bool) -> Spec | None:
    """The specs of the parts, put together, or None where there are none that stand side by side.

    `read` reads one part. Words tell parts (`actor`, `critic`); `by_likeness`, equal names and shapes do.

    Raises:
        SpecError, AmbiguousError: as `read` does for a part.
    """
    modules = layout.modules()
    parts = _parallel(modules, _alike if by_likeness else _named)
    if not parts:
        return None
    specs: dict[str, Spec] = {}
    for part in parts:
        spec = read(_within(layout, modules, [path for path in modules if _is_below(path, part)]))
        if spec is None:
            return None
        specs[part] = spec
    rest = [path for path in modules if not any(_is_below(path, part) for part in parts)]
    borders = {width for part in parts for width in _ends(modules, part)}
    for line in _lines(rest, modules, borders):
        spec = read(_within(layout, modules, line))
        if spec is None:
            return None
        specs[line[0]] = spec
    return _united(specs)


def _parallel(modules: Mapping[str, Module], siblings: Siblings) -> list[str]:
    """The paths of the parts that stand side by side, outermost first; none where names show none."""
    level = {""}
    while level:
        for above in sorted(level):
            children = _children(modules, above)
            parts = siblings(children, modules, above)
            if len(parts) > 1:
                return parts
        level = {child for above in level for child in _children(modules, above) if child not in modules}
    return []


def _children(modules: Mapping[str, Module], above: str) -> list[str]:
    cut = len(above) + 1 if above else 0
    return list(
        dict.fromkeys(
            path[: cut + len(path[cut:].split(".")[0])]
            for path in modules
            if path.startswith(f"{above}." if above else "")
        )
    )


def _named(children: list[str], modules: Mapping[str, Module], above: str) -> list[str]:
    """The children that words put side by side: the members of `experts`, or `actor` and `critic`."""
    whole = [child for child in children if _matrices(modules, child)]
    listed = [child for child in whole if child.rpartition(".")[2].isdigit()]
    if len(listed) > 1 and set(tokens(above.rpartition(".")[2])[-1:]) & LISTS:
        return listed
    named = [child for child in whole if set(tokens(child.rpartition(".")[2])) & PARALLEL]
    return named if len(named) > 1 and any(child not in modules for child in named) else []


def _alike(children: list[str], modules: Mapping[str, Module], above: str) -> list[str]:
    """The children of several layers that are alike in names and shapes, but for convolutional stages."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for child in children:
        matrices = _matrices(modules, child)
        is_stage = (
            bool(set(tokens(child.rpartition(".")[2])) & SEQUENTIAL) and matrices[:1] and matrices[0].rank > 2
        )
        if len(matrices) > 1 and not is_stage:
            alike.setdefault(_looks(modules, child), []).append(child)
    return max(alike.values(), key=len, default=[])


def _looks(modules: Mapping[str, Module], part: str) -> tuple[object, ...]:
    below = {path[len(part) :]: m for path, m in modules.items() if _is_below(path, part)}
    return tuple(sorted((path, tuple(sorted(m.shapes.items()))) for path, m in below.items()))


def _matrices(modules: Mapping[str, Module], part: str) -> list[Module]:
    return [module for path, module in modules.items() if _is_below(path, part) and module.rank >= 2]


def _is_below(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part}.")


def _within(layout: Layout, modules: Mapping[str, Module], paths: list[str]) -> Layout:
    return layout.without([module for path, module in modules.items() if path not in paths])


def _ends(modules: Mapping[str, Module], part: str) -> set[int]:
    """The widths that may stand at a part's ends, by names and by shapes."""
    layers = sorted(_matrices(modules, part), key=lambda module: pieces(module.path))
    shapes = [layer.shapes["weight"] for layer in layers]
    outs, ins = {shape[0] for shape in shapes}, {shape[1] for shape in shapes}
    return (outs ^ ins) | {shapes[0][1], shapes[-1][0]}


def _lines(rest: list[str], modules: Mapping[str, Module], borders: set[int]) -> list[list[str]]:
    """The other layers in lines: numbered through, and not joined at a width that a part has at an end."""
    matrices = sorted((p for p in rest if modules[p].rank >= 2), key=pieces)
    lines: list[list[str]] = []
    for path in matrices:
        if lines and stands_before(lines[-1][-1], path) and parent(path) == parent(lines[-1][-1]):
            out = modules[lines[-1][-1]].shapes["weight"][0]
            if out == modules[path].shapes["weight"][1] and out not in borders:
                lines[-1].append(path)
                continue
        lines.append([path])
    for path in rest:
        if modules[path].rank < 2 and lines:
            lines[-1 if len(lines) == 1 else _line_of(path, lines)].append(path)
    return lines


def _line_of(path: str, lines: list[list[str]]) -> int:
    """The line that a norm or another vector stands in: that of its number, else the first."""
    numbers = [tuple(n for _, n in pieces(path) if n >= 0)]
    for i, line in enumerate(lines):
        if any(tuple(n for _, n in pieces(p) if n >= 0) in numbers for p in line):
            return i
    return 0


def _united(specs: Mapping[str, Spec]) -> Spec:
    axes: dict[str, Axes] = {}
    pooled: set[str] = set()
    taken: set[str] = set()
    for part, spec in specs.items():
        path = group_name(part)
        names = {g: g if g.startswith(path) and g not in taken else f"{path}.{g}" for g in spec.groups()}
        taken |= set(names.values())
        axes |= {name: _renamed(a, names) for name, a in spec.axes.items()}
        pooled |= {names[g] for g in spec.pooled if g in names}
    assumptions = _once(specs)
    sources = dict.fromkeys(spec.source for spec in specs.values() if spec.groups())
    source = f"{len(specs)} parts side by side ({', '.join(sources) or 'single layers'})"
    first = next(iter(specs.values()))
    return replace(first, axes=axes, source=source, assumptions=assumptions, pooled=frozenset(pooled))


def _once(specs: Mapping[str, Spec]) -> tuple[str, ...]:
    """The parts' assumptions; one that several parts share is said of the first, and the others are named."""
    alike: dict[str, dict[str, str]] = {}
    for part, spec in specs.items():
        for line in spec.assumptions:
            alike.setdefault(line.replace(f"'{part}.", "'."), {})[part] = line
    lines = []
    for by_part in alike.values():
        first, *others = by_part
        names = ", ".join(f"'{part}'" for part in others)
        lines.append(by_part[first] + (f"; likewise in {names}" if others else ""))
    return tuple(lines)


def _renamed(axes: Axes, names: Mapping[str, str]) -> Axes:
    def renamed(factor: Atom | Axis) -> Atom | Axis:
        if isinstance(factor, Axis):
            return _renamed((factor,), names)[0]
        return replace(factor, name=names[factor.name]) if factor.name else factor

    return tuple(Axis(tuple(tuple(map(renamed, term)) for term in axis.terms)) for axis in axes)
