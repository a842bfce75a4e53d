"""The parts of a residual network, by names: stem, blocks with their projections and gates, norms, head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deepalign_cli.symmetry.draft import ambiguous, misfit
from deepalign_cli.symmetry.families import chain
from deepalign_cli.symmetry.families.chain import Chain
from deepalign_cli.symmetry.families.words import has_word, is_last, tokens
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.tensor_names import MODULE_ROLES, numbers, parent, pieces

_BLOCK_WORDS = frozenset(
    f"{word}{s}"
    for word in ("layer", "stage", "block", "group", "res", "resblock", "unit", "residual")
    for s in ("", "s")
) | {"bottleneck", "bottlenecks", "body", "trunk", "resnet"}
_SHORTCUT_WORDS = frozenset({"downsample", "shortcut", "projection", "skip", "identity", "residual"})
_GATE_WORDS = frozenset({"se", "squeeze", "excitation", "excite", "scse", "cse"})


@dataclass(frozen=True)
class ResidualBlock:
    """A residual block: its convolutions and norms in order, its projection (conv, norm), and its gate.

    The gate is squeeze-and-excitation's pair of layers. `norms_first` is what positions in a sequence say.
    """

    path: str
    convs: tuple[Module, ...]
    norms: tuple[Module, ...]
    shortcut: tuple[Module, ...]
    gate: tuple[Module, ...] = ()
    norms_first: bool | None = None

    @property
    def into(self) -> int:
        return self.convs[0].shapes["weight"][1]

    @property
    def out(self) -> int:
        return self.convs[-1].shapes["weight"][0]


@dataclass(frozen=True)
class Net:
    """A residual network's parts; `norms` stand behind the last block.

    `norms_first` says that the blocks are pre-activation: norm, activation, convolution.
    """

    stem: Chain
    blocks: tuple[ResidualBlock, ...]
    norms: tuple[Module, ...]
    head: Chain | None
    norms_first: bool


def read(layout: Layout) -> Net | None:
    """The parts of a residual network whose names share no prefix, or None if this is not one.

    Raises:
        SpecError: names say residual blocks, and a tensor has no known role in them.
    """
    inside: dict[str, list[Module]] = {}
    outside: list[Module] = []
    for module in layout.modules().values():
        path = _block_of(module.path)
        inside.setdefault(path, []).append(module) if path else outside.append(module)
    while inside and not any(m.rank > 2 for m in outside if not is_last(m.path)):
        first = min(inside, key=pieces)
        if len([m for m in inside[first] if m.rank > 2]) != 1:
            return None
        outside += inside.pop(first)
    if not any(len([m for m in block if m.rank > 2]) > 1 for block in inside.values()):
        return None
    blocks = tuple(_read_block(path, inside[path]) for path in sorted(inside, key=pieces))
    return _net(layout, outside, blocks)


def _block_of(path: str) -> str:
    """The block that a module stands in: `layer1.0` for `layer1.0.conv1`; empty outside of blocks."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        last = parts[count - 1]
        named = last if not last.isdigit() else parts[count - 2] if count > 1 else ""
        if re.search(r"\d$", last) and set(tokens(named)) & _BLOCK_WORDS:
            return ".".join(parts[:count])
    return ""


def _net(layout: Layout, outside: Sequence[Module], blocks: tuple[ResidualBlock, ...]) -> Net:
    _check_roles(outside)
    tail = [m for m in outside if m.rank == 2 or (m.rank > 2 and is_last(m.path))]
    stem = [m for m in outside if m.rank > 2 and m not in tail]
    norms = [m for m in outside if m.is_norm]
    width, last_width = {m.shapes["weight"][0] for m in stem}, blocks[-1].out
    in_head = [n for n in norms if _is_beside(n, tail)]
    in_stem = [n for n in norms if n not in in_head and n.size in width]
    behind = any(n.size != last_width or _is_beside(n, stem) for n in in_stem)
    before = norms_come_first(blocks, behind=behind)
    if before:
        in_stem = [n for n in in_stem if n.size != last_width or _is_beside(n, stem)]
    last = tuple(n for n in norms if n not in in_head and n not in in_stem)
    head = _chain(layout, [*tail, *in_head], "head") if tail else None
    return Net(_chain(layout, [*stem, *in_stem], "stem"), blocks, last, head, norms_first=before)


def _is_beside(norm: Module, layers: Iterable[Module]) -> bool:
    """Whether a norm stands in one Sequential with a layer, or is called after it."""
    own = norm.path.rpartition(".")[2]
    return any(
        (parent(layer.path) == parent(norm.path) != "")
        or (len(own) > 3 and layer.path.rpartition(".")[2] in own and not own.isdigit())
        for layer in layers
    )


def _chain(layout: Layout, modules: Sequence[Module], part: str) -> Chain:
    rest = [m for m in layout.modules().values() if m.path not in {module.path for module in modules}]
    whole = chain.read(layout.without(rest))
    if whole is None:
        raise misfit(f"the layers of the {part}, {_quoted(modules)}, cannot be put in one line.")
    return whole


def _quoted(modules: Sequence[Module]) -> str:
    return ", ".join(f"'{m.path}'" for m in modules[:4]) + (", ..." if len(modules) > 4 else "")


def _check_roles(modules: Iterable[Module]) -> None:
    for module in modules:
        for role, name in module.names.items():
            if role not in MODULE_ROLES or not (module.rank >= 2 or module.is_norm):
                raise ambiguous(f"'{name}' has no known role in a residual network.")


def _read_block(path: str, modules: list[Module]) -> ResidualBlock:
    _check_roles(modules)
    cut = len(path) + 1
    first_words = {m.path: set(tokens(m.path[cut:].partition(".")[0])) for m in modules}
    shortcut = [m for m in modules if first_words[m.path] & _SHORTCUT_WORDS]
    gate = [
        m
        for m in modules
        if m not in shortcut and (first_words[m.path] & _GATE_WORDS or _is_gate(m, modules))
    ]
    main = sorted((m for m in modules if m not in shortcut and m not in gate), key=lambda m: pieces(m.path))
    convs = [m for m in main if m.rank > 2]
    norms = [m for m in main if m.is_norm]
    stray = [m for m in main if m not in convs and m not in norms]
    if not convs or stray or len(norms) not in (0, len(convs)):
        raise ambiguous(f"the block '{path}' has layers whose roles are not known: {_quoted(stray or main)}.")
    projections = [m for m in shortcut if m.rank > 2]
    if len(projections) > 1 or any(not m.is_norm for m in shortcut if m not in projections):
        raise ambiguous(
            f"the shortcut of '{path}' has layers whose roles are not known: {_quoted(shortcut)}."
        )
    norms_first = _sides([m.path[cut:] for m in convs], [m.path[cut:] for m in norms], path)
    _refuse_parallel(convs, cut)
    pair = _gate(gate, path)
    by_rank = tuple(sorted(shortcut, key=lambda m: -m.rank))
    return ResidualBlock(path, tuple(convs), tuple(norms), by_rank, pair, norms_first)


def _is_gate(module: Module, modules: Sequence[Module]) -> bool:
    """Whether this is a linear layer, or a convolution of one place called `fc`, beside convolutions."""
    largest = max((m.rank for m in modules), default=0)
    return module.rank == 2 or (
        module.rank > 2
        and module.rank == largest
        and has_word(module.path, ("fc",))
        and set(module.shapes["weight"][2:]) == {1}
    )


def _sides(convs: list[str], norms: list[str], path: str) -> bool | None:
    """Whether norms stand before convolutions, where both are numbered in one sequence; None where not.

    Raises:
        SpecError: numbers do not pair norms with convolutions.
    """
    if not norms:
        return None
    if all(numbers(c) == numbers(n) for c, n in zip(convs, norms, strict=True)):
        return None
    order = sorted([*((pieces(c), "c") for c in convs), *((pieces(n), "n") for n in norms)])
    turns = "".join(kind for _, kind in order)
    if len({parent(p) for p in (*convs, *norms)}) == 1 and turns in ("cn" * len(convs), "nc" * len(convs)):
        return turns.startswith("n")
    raise ambiguous(f"nothing says which norm of '{path}' belongs to which convolution.")


def _refuse_parallel(convs: Sequence[Module], cut: int) -> None:
    """A last convolution of one place behind wider ones may be a shortcut."""
    first, last = convs[0].shapes["weight"], convs[-1].shapes["weight"]
    words = {tuple(tokens(conv.path[cut:])) for conv in convs}
    if len(convs) > 1 and max(first[2:]) > 1 == max(last[2:]) and last[1] == first[1]:
        raise ambiguous(f"'{convs[-1].path}' may be the shortcut of its block, or its last convolution.")
    if len(words) > 1:
        raise ambiguous(
            f"nothing says whether '{convs[-1].path}' follows '{convs[-2].path}' or stands beside it."
        )


def _gate(modules: list[Module], path: str) -> tuple[Module, ...]:
    """Squeeze-and-excitation's two layers, the squeezing one first.

    Raises:
        AmbiguousError: there are others.
    """
    if not modules:
        return ()
    ordered = sorted(modules, key=lambda m: pieces(m.path))
    if len(ordered) == 2 and all(m.rank >= 2 and set(m.shapes["weight"][2:]) <= {1} for m in ordered):
        if ordered[0].shapes["weight"][0] > ordered[0].shapes["weight"][1]:
            ordered.reverse()
        squeeze, excite = (m.shapes["weight"] for m in ordered)
        if squeeze[0] == excite[1] and squeeze[1] == excite[0]:
            return tuple(ordered)
    raise ambiguous(f"the block '{path}' has layers whose roles are not known: {_quoted(modules)}.")


def norms_come_first(blocks: Sequence[ResidualBlock], *, behind: bool) -> bool:
    """Whether the blocks are pre-activation: each norm fits the input of its convolution, not the output.

    Where both fit, all norms of a network are read alike: `behind` says that the stem's stand behind.

    Raises:
        AmbiguousError: both fit. SpecError: neither does.
    """
    told = {b.norms_first for b in blocks if b.norms_first is not None}
    if len(told) == 1:
        return told.pop()
    pairs = [(c.shapes["weight"], n) for b in blocks for c, n in zip(b.convs, b.norms, strict=False)]
    after = all(shape[0] == norm.size for shape, norm in pairs)
    before = all(shape[1] == norm.size for shape, norm in pairs)
    if after and before and pairs and behind:
        return False
    if after and before and pairs:
        raise ambiguous("the norms may stand before or after their convolutions; all widths are equal.")
    if not after and not before:
        raise misfit("the norms fit neither the inputs nor the outputs of their convolutions.")
    return before and bool(pairs)
