"""From traces in two sizes to the text of a template: numbers get names, layers one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from template_nets import Net
from template_trials import TracedClass
from template_turns import Head, TurnedText, turned_table, turned_text

from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.known_models import configured, solved
from deepalign_cli.symmetry.meet import differing_marks, unmarked
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.template import FORMAT, LAYER, Template, Variant, expansion

_ATOM = re.compile(r"(?<![\w.{])([~+-]*)((?!\{)[A-Za-z_](?:[\w.]|\{i\})*)(?![\w.}])")
_TOKEN = re.compile(r"[A-Za-z_][\w.]*|\d+|[^\w]+")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Folded:
    """A class by patterns: its lines, those that may be absent, and the sizes of groups in both traces."""

    lines: dict[str, str]
    optional: frozenset[str]
    groups: dict[str, Pair]
    lengths: dict[Pair, str]
    symbols: dict[Pair, str]
    is_bare: bool
    also: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    turned: dict[str, TurnedText]
    head: Head | None


def fold(net: Net, a: TracedClass, b: TracedClass) -> Folded:
    """One line for all layers; numbers that differ between the sizes get names or `?`."""
    if a.shapes.keys() != b.shapes.keys() or a.optional != b.optional:
        raise SystemExit(f"{net.name}: the two sizes have other tensors")
    prefix = net.prefix if any(name.startswith(net.prefix) for name in a.shapes) else ""
    rename = _renaming(net, prefix, a.spec)
    specs = [a.spec, b.spec]
    marked = [_layer_marks(net, prefix, spec, rename) for spec in specs]
    for marks in (*marked, differing_marks(a.spec.axes, b.spec.axes)):
        specs = [unmarked(spec, *marks) for spec in specs]
    lengths, symbols = _names(net, a.config, b.config)
    lines: dict[str, str] = {}
    optional, groups = set(), {}
    for name in a.shapes:
        texts = [
            format_axes(s.axes[name]) if name in s.axes else " ".join(map(str, sh[name]))
            for s, sh in zip(specs, (a.shapes, b.shapes), strict=True)
        ]
        pattern = _pattern(net, prefix, name, a.shapes)
        text = "".join(_tokens(name, *texts, rename, lengths, LAYER in pattern))
        if lines.setdefault(pattern, text) != text:
            raise SystemExit(f"{name}: {text!r}, elsewhere {lines[pattern]!r}")
        optional |= {pattern} if name in a.optional else set()
    for group in specs[0].groups():
        groups[rename[group].replace("#", LAYER)] = (a.spec.sizes[group], b.spec.sizes[group])
    for pattern, text in _extra(net, prefix, lines):
        lines[pattern] = text
        optional.add(pattern)
    is_bare = bool(net.prefix) and not prefix
    turned = {
        key: _turned(net, prefix, one, other, rename, lengths, a.shapes)
        for key, one, other in (("turned", a.turned, b.turned), ("untied", a.untied, b.untied))
        if one and other
    }
    return Folded(
        lines, frozenset(optional), groups, lengths, symbols, is_bare, a.also, dict(a.shapes), turned, a.head
    )


def _turned(
    net: Net, prefix: str, a: Spec, b: Spec, rename: Mapping[str, str], lengths: Mapping[Pair, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> TurnedText:  # fmt: skip
    """What turns in a class, by patterns."""
    names = {**_renaming(net, prefix, a), **rename}

    def pattern(name: str) -> str:
        return _pattern(net, prefix, name, shapes)

    def text(name: str, one: str, other: str) -> str:
        return "".join(_tokens(name, one, other, names, lengths, LAYER in pattern(name)))

    return turned_text(a, b, shapes, names.__getitem__, pattern, text)


def _extra(net: Net, prefix: str, lines: Mapping[str, str]) -> list[tuple[str, str]]:
    """Lines that no trace has: old buffers, and second names of tied tensors."""
    found = []
    for pattern, text in net.extra.items():
        if text.startswith("="):
            first = prefix + text[1:] if prefix + text[1:] in lines else text[1:]
            found += [(pattern, lines[first])] if first in lines and pattern not in lines else []
        else:
            before = prefix + (
                pattern.partition(LAYER)[0] if LAYER in pattern else pattern.rpartition(".")[0]
            )
            found += [(prefix + pattern, text)] if any(line.startswith(before) for line in lines) else []
    return found


def _layer_of(net: Net, prefix: str, name: str) -> tuple[str, str] | None:
    """What stands before the number of a tensor's (or group's) layer, and the number."""
    for repeat in net.repeats:
        for before in dict.fromkeys((prefix + repeat, repeat)):
            match = re.match(rf"{re.escape(before)}(\d+)\.", name)
            if match:
                return before, match[1]
    return None


def _pattern(net: Net, prefix: str, name: str, shapes: Mapping[str, object]) -> str:
    """A tensor's name with `{i}`, where all layers have it."""
    layer = _layer_of(net, prefix, name)
    if layer is None:
        return name
    before, number = layer
    rest = name[len(before) + len(number) :]
    numbers = {m[1] for n in shapes if (m := re.match(rf"{re.escape(before)}(\d+)\.", n))}
    return f"{before}{LAYER}{rest}" if all(f"{before}{n}{rest}" in shapes for n in numbers) else name


def _renaming(net: Net, prefix: str, spec: Spec) -> dict[str, str]:
    """New names of groups: without the prefix, `#` for the layer's number where it is of one layer only."""
    places: dict[str, set[tuple[str, str] | None]] = {}
    for name, axes in spec.axes.items():
        for axis in axes:
            for group in axis.groups():
                places.setdefault(group, set()).add(_layer_of(net, prefix, name))
    names = {}
    for group, layers in places.items():
        layer = next(iter(layers)) if len(layers) == 1 else None
        name = _group_name(net, prefix, group, layer)
        count = 2
        while "#" not in name and name in names.values():
            name, count = f"{_group_name(net, prefix, group, layer)}.{count}", count + 1
        names[group] = name
    keys = [(name, *(places[group] if "#" in name else ())) for group, name in names.items()]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise SystemExit(f"{net.name}: several groups have one name: {twice[:4]}")
    return names


def _group_name(net: Net, prefix: str, group: str, layer: tuple[str, str] | None) -> str:
    own = _layer_of(net, prefix, group)
    name = group.removeprefix(prefix)
    if own is None and layer is not None:  # named as in memory, where files have other names
        before, number, after = re.fullmatch(rf"(.*(?:^|\.))({layer[1]})(\..*)", name).groups()  # type: ignore[union-attr]
        return f"{before}#{after}"
    if own is None:
        return name
    before, number = own
    rest = group[len(before) + len(number) :]
    before = before.removeprefix(prefix)
    return f"{before}#{rest}" if layer == own else f"{before.rstrip('.')}{rest}"


def _layer_marks(net: Net, prefix: str, spec: Spec, rename: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """The groups whose scales differ between layers, and those whose signs do."""
    first: dict[str, Any] = {}
    scales: set[str] = set()
    signs: set[str] = set()
    for name, axes in spec.axes.items():
        layer = _layer_of(net, prefix, name)
        if layer is None:
            continue
        before, number = layer
        atoms = [(rename[a.name], a) for axis in axes for a in axis.atoms() if a.name]
        key = before + name[len(before) + len(number) :]
        for (group, atom), (_, other) in zip(atoms, first.setdefault(key, atoms), strict=False):
            scales |= {group} if atom.exponent != other.exponent else set()
            signs |= {group} if ("~" in atom.mark) != ("~" in other.mark) else set()
    return tuple({g for g, n in rename.items() if n in bad} for bad in (scales, signs))  # type: ignore[return-value]


def _tokens(
    name: str, a: str, b: str, rename: Mapping[str, str], lengths: Mapping[Pair, str], is_layer: bool
) -> Iterator[str]:
    ones, others = _TOKEN.findall(a), _TOKEN.findall(b)
    if [t for t in ones if not t.isdigit()] != [t for t in others if not t.isdigit()]:
        raise SystemExit(f"{name}: {a!r} in one size, {b!r} in the other")
    for one, other in zip(ones, others, strict=True):
        if not one.isdigit():
            yield rename.get(one, one).replace("#", LAYER if is_layer else "0") if one in rename else one
        elif one == other:
            yield one
        else:
            pair = (int(one), int(other))
            yield f"{{{lengths[pair]}}}" if pair in lengths else "?"


def _names(net: Net, a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[dict[Pair, str], dict[Pair, str]]:
    """The settings by their values in both sizes: those that are lengths, and those that are heads."""
    flat = [dict(_flat("", config)) for config in (a, b)]
    lengths: dict[Pair, str] = {}
    for key, value in flat[0].items():
        if key in flat[1] and flat[1][key] != value and value > 1:
            lengths.setdefault((value, flat[1][key]), key)
    symbols = {}
    for symbol, keys in net.heads.items():
        one, other = configured(a, keys), configured(b, keys)
        if one and other:
            symbols[one, other] = symbol
    if "num_key_value_heads" in a:
        kv = (a["num_key_value_heads"], b["num_key_value_heads"])
        heads = next(iter(symbols))
        symbols[kv] = "kv_heads"
        symbols[heads[0] // kv[0], heads[1] // kv[1]] = "heads/kv_heads"
    return lengths, symbols


def _flat(before: str, table: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    hidden = table.get("hidden_size") or table.get("d_model") or table.get("n_embd") or table.get("dim")
    heads = (
        table.get("num_attention_heads")
        or table.get("num_heads")
        or table.get("n_head")
        or table.get("n_heads")
    )
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(f"{key.removesuffix('config')}", value)
        elif type(value) is int and not key.endswith(("_id", "layers", "layer", "heads", "n_head")):
            yield before + key, value
    if isinstance(hidden, int) and isinstance(heads, int):
        yield f"{before}head_dim", hidden // heads


@dataclass(frozen=True)
class Parts:
    """A class by its body, without the prefix, and the tensors beside that."""

    body: dict[str, str]
    beside: dict[str, str]


def written(net: Net, classes: Mapping[str, Folded]) -> str:
    """The text of a template: lines that classes share stand once, groups that stay in a class are named."""
    parts = _agreed({name: _parts(net, one) for name, one in classes.items()})
    order = sorted(parts, key=lambda name: -sum(map(_groups_in, parts[name].body.values())))
    shared: dict[str, str] = {}
    for name in order:
        shared = {**parts[name].body, **shared}
    optional = {
        p for p in shared if all(_is_optional(net, classes[n], p) for n in parts if p in parts[n].body)
    }
    groups = {g: pair for one in classes.values() for g, pair in one.groups.items()}
    tables = {name: _table(net, classes[name], parts[name], shared, optional, groups) for name in parts}
    head = {
        "format": FORMAT,
        "model_types": list(net.model_types),
        "traced_with": f"{net.package} {version(net.package)}, torch {version('torch').partition('+')[0]}",
        "prefix": net.prefix,
        "optional": sorted(optional),
    }
    lines = ["# Written by benchmarks/make_templates.py from traces; do not edit.", *_entries(head)]
    sizes = _sizes(net, classes, parts)
    heads = {symbol: list(keys) for symbol, keys in net.heads.items()} if sizes else {}
    for title, table in (("heads", heads), ("sizes", sizes), ("axes", shared)):
        lines += ["", f"[{title}]", *_entries(table)] if table else []
    for name, table in tables.items():
        plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
        lines += ["", f"[classes.{_key(name)}]", *_entries(plain)]
        for key in ("body", "axes"):
            if table.get(key):
                lines += ["", f"[classes.{_key(name)}.{key}]", *_entries(table[key])]
        plain_lines = _whole(net, classes[name], shared, table)
        for key, turned in classes[name].turned.items():
            head = classes[name].head if key == "untied" else None
            lines += _turned_lines(f"classes.{_key(name)}.{key}", turned_table(turned, plain_lines, head))
    return "\n".join(lines) + "\n"


def _whole(net: Net, one: Folded, shared: Mapping[str, str], table: Mapping[str, Any]) -> dict[str, str]:
    """The lines of a class as they are read from its template, by whole names."""
    before = "" if one.is_bare else net.prefix
    body = {before + pattern: text for pattern, text in {**shared, **table.get("body", {})}.items()}
    return {**body, **table.get("axes", {})}


def _turned_lines(title: str, table: Mapping[str, Any]) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = ["", f"[{title}]", *_entries(plain)] if plain else []
    for key, one in table.items():
        lines += ["", f"[{title}.{key}]", *_entries(one)] if isinstance(one, dict) else []
    return lines


def _parts(net: Net, one: Folded) -> Parts:
    prefix = "" if one.is_bare else net.prefix
    body = {p.removeprefix(prefix): text for p, text in one.lines.items() if p.startswith(prefix)}
    return Parts(body, {p: text for p, text in one.lines.items() if not p.startswith(prefix)})


def _agreed(parts: Mapping[str, Parts]) -> dict[str, Parts]:
    """The classes without the marks in which they differ."""
    first: dict[str, list[tuple[str, str]]] = {}
    scales: set[str] = set()
    signs: set[str] = set()
    for one in parts.values():
        for pattern, text in one.body.items():
            atoms = dict(_marked(text))
            for group, mark in _marked(first.setdefault(pattern, text)):  # type: ignore[arg-type]
                other = atoms.get(group, mark)
                scales |= {group} if mark[-1:].strip("~") != other[-1:].strip("~") else set()
                signs |= {group} if ("~" in mark) != ("~" in other) else set()

    def bare(text: str) -> str:
        def one(match: re.Match[str]) -> str:
            mark, group = match[1], match[2]
            mark = mark.rstrip("+-") if group in scales else mark
            return (mark.replace("~", "") if group in signs else mark) + group

        return _ATOM.sub(one, text)

    return {
        name: Parts(*({p: bare(text) for p, text in lines.items()} for lines in (one.body, one.beside)))
        for name, one in parts.items()
    }


def _marked(text: str) -> list[tuple[str, str]]:
    return [(group, mark) for mark, group in _ATOM.findall(text)]


def _groups_in(text: str) -> int:
    return len(_ATOM.findall(text))


def _is_optional(net: Net, one: Folded, pattern: str) -> bool:
    return (pattern if one.is_bare else net.prefix + pattern) in one.optional


def _table(
    net: Net,
    one: Folded,
    parts: Parts,
    shared: Mapping[str, str],
    optional: set[str],
    groups: Mapping[str, Pair],
) -> dict[str, Any]:
    """What a class has of its own beside the lines that all share."""
    own = {g for text in parts.body.values() for _, g in _ATOM.findall(text)}
    differing = [p for p, text in parts.body.items() if text != shared[p]]
    stays = {g for p in differing for _, g in _ATOM.findall(shared[p])} - own
    numbers = {g: one.lengths.get(groups[g]) for g in stays}

    def held(text: str) -> str:
        return _ATOM.sub(
            lambda m: m[0] if m[2] not in stays else f"{{{name}}}" if (name := numbers.get(m[2])) else "?",
            text,
        )

    body = {p: parts.body[p] for p in differing if held(shared[p]) != parts.body[p]}
    lacks = sorted(set(shared) - set(parts.body))
    mine = {p for p in parts.body if _is_optional(net, one, p)} - optional
    mine |= {p for p in parts.beside if p in one.optional}
    return {
        **({"also": list(one.also)} if one.also else {}),
        **({"bare": True} if one.is_bare else {}),
        **({"stays": sorted(stays)} if stays else {}),
        **({"lacks": lacks} if lacks else {}),
        **({"optional": sorted(mine)} if mine else {}),
        "body": body,
        "axes": parts.beside,
    }


def _sizes(net: Net, classes: Mapping[str, Folded], parts: Mapping[str, Parts]) -> dict[str, str]:
    """The groups whose sizes are numbers of heads, where the shapes do not give these."""
    sizes: dict[str, str] = {}
    for one in classes.values():
        variant = Variant("", (), one.lines, one.optional, frozenset())
        template = Template("", "", (), net.prefix, {}, {}, (variant,))
        lines = expansion(template, variant, set(one.shapes))
        if lines is None:
            raise SystemExit(f"{net.name}: a class does not match its own template")
        if solved(lines, frozenset(), one.shapes, {}) is None:
            sizes |= {g: one.symbols[pair] for g, pair in one.groups.items() if pair in one.symbols}
    return sizes


def _entries(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {json.dumps(value)}" for key, value in table.items() if value != []]


def _key(key: str) -> str:
    return key if re.fullmatch(r"\w+", key) else json.dumps(key)
