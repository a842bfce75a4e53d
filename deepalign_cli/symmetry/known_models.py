"""Networks that a template describes, found by the names and shapes of all of a file's tensors.

Every tensor must be explained and none that is needed may be absent, so a stranger's network with one
tensor more is no match. Where several classes have the same tensors, what moves is what all of them allow.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import SpecError, UsageError
from deepalign_cli.symmetry.axes import Axes, parse_axes, without_marks
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.meet import Shapes, meet
from deepalign_cli.symmetry.sizes import solve_sizes
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.template import Expansion, Template, Variant, expansion, templates
from deepalign_cli.symmetry.tensor_names import common_prefix
from deepalign_cli.symmetry.turned_lines import TurnedLines, with_turns

_FREE = "_."  # before the names of lengths, which are solved for as if they were groups
_LENGTH = re.compile(r"\{(\w+)\}")
_KV = "kv_heads"  # the heads of keys and values, which the shapes tell where those of queries are known
_WORDS = {"stream": "the residual stream"}
_STAY = "attention heads stay in place: their number is not in the shapes"


@dataclass(frozen=True)
class _Match:
    """A template's class that a file has the tensors of; `turned` is what turns, where that counts.

    `instead` are the lines that are other ones where it does.
    """

    template: Template
    variant: Variant
    lines: Expansion
    turned: TurnedLines | None = None
    instead: Mapping[str, str] = field(default_factory=dict)


def match(checkpoint: Checkpoint, heads: int | None = None, *, turns: bool = False) -> Spec | None:
    """The spec of a checkpoint by a template, or None if there is none for it.

    The number of heads is that of its config.json, else `heads`; where neither is there, heads stay. With
    `turns` it is the spec in which all that may turn does, and None where the template does not tell.

    Raises:
        UsageError: `heads` does not fit the shapes, or the network has attentions of several kinds.
    """
    called = {_modern(n): n for n, info in checkpoint.infos.items() if info.is_float or info.is_complex}
    shapes = {new: checkpoint.infos[name].shape for new, name in called.items()}
    found = list(_matches(checkpoint.config, shapes))
    asked = [_turning(one, called, checkpoint) if turns else one for one in found]
    matches = [one for one in asked if one is not None]
    specs = [s for one in matches if (s := _spec(one, shapes, checkpoint.config, heads)) is not None]
    if len(specs) < len(found) or not specs:
        return None
    both: Spec | None = specs[0]
    for other in specs[1:]:
        both = both and meet(both, other, shapes)
    spec = both and both.renamed(called.__getitem__)
    spec = spec and _with_ties(spec, checkpoint)
    return spec and _described(spec, matches, checkpoint.config)


def _modern(name: str) -> str:
    """The name that a tensor has today: norms of files from 2019 have a gamma and a beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _matches(config: Mapping[str, object], shapes: Shapes) -> Iterator[_Match]:
    model_type, classes = config.get("model_type"), config.get("architectures")
    around = common_prefix(list(shapes))
    for template in templates():
        if model_type is not None and model_type not in template.model_types:
            continue
        for variant in template.variants:
            if isinstance(classes, list) and classes and not {*classes} & {*variant.names}:
                continue
            for outer, cut in dict.fromkeys((o, c) for o in ("", around) for c in ("", template.prefix)):
                lines = expansion(template, variant, {n.removeprefix(outer) for n in shapes}, cut)
                if lines is not None:
                    axes = {outer + name: text for name, text in lines.axes.items()}
                    names = {whole: outer + name for whole, name in lines.names.items()}
                    yield _Match(template, variant, replace(lines, axes=axes, names=names))
                    break


def _spec(one: _Match, shapes: Shapes, config: Mapping[str, object], heads: int | None) -> Spec | None:
    """The spec for a file's shapes; None where they contradict it."""
    numbers = {symbol: configured(config, keys) for symbol, keys in one.template.heads.items()}
    is_asked = heads is not None and bool(one.lines.sizes)
    if is_asked and len(numbers) > 1:
        raise UsageError(
            f"{one.variant.name} has several numbers of heads ({', '.join(numbers)}).",
            "leave --heads out, and give the folder with its config.json.",
        )
    known = {symbol: heads if is_asked else number for symbol, number in numbers.items()}
    kv = configured(config, ("num_key_value_heads",))
    choices = [c for c in _choices(known, one.lines.sizes.values()) if kv is None or c.get(_KV, kv) == kv]
    specs = [s for sizes in choices if (s := _of_sizes(one, shapes, sizes)) is not None]
    if is_asked and not specs:
        raise UsageError(f"{heads} heads do not fit the shapes of {one.variant.name}.", "correct --heads.")
    if not specs or not one.lines.sizes or (len(specs) == 1 and all(known.values())):
        return specs[0] if specs else None
    spec = _of_sizes(one, shapes, {} if len(specs) > 1 else choices[0])
    is_open = len(numbers) == 1 and not is_asked
    hint = "--heads N moves them" if is_open else "a config.json beside the file tells it"
    return spec and replace(spec, stays=(*spec.stays, f"{_STAY}; {hint}"))


def _of_sizes(one: _Match, shapes: Shapes, numbers: Mapping[str, int]) -> Spec | None:
    lines, stays = one.lines, one.variant.stays
    spec = solved(lines, stays, shapes, numbers)
    if spec is None or one.turned is None:
        return spec
    known = solve_sizes(spec, {name: shapes[name] for name in spec.axes})
    turned = replace(lines, axes={**lines.axes, **one.instead})
    spec = solved(turned, stays, shapes, numbers, known)
    return with_turns(spec, one.turned, lines.names, lines.layers) if spec else None


def _turning(one: _Match, called: Mapping[str, str], checkpoint: Checkpoint) -> _Match | None:
    """The match with the lines in which what may turn does; None where the template does not tell."""
    turned, untied, names = one.variant.turned, one.variant.untied, one.lines.names
    if untied and untied.head in names:
        head, embedding = (called[names[name]] for name in (untied.head, untied.embedding))
        turned = untied if _is_untied(checkpoint, head, embedding, untied.is_tied_by_default) else turned
    if turned is None:
        return None
    instead = {names[n]: text for n, text in turned.expanded(one.lines.layers).items() if n in names}
    return replace(one, turned=turned, instead=instead)


def _is_untied(checkpoint: Checkpoint, head: str, embedding: str, is_tied_by_default: bool) -> bool:
    """Whether a head is a tensor of its own: by the config.json, or where there is none by its numbers."""
    told = checkpoint.config.get("tie_word_embeddings")
    if told is None and "model_type" in checkpoint.config:
        told = is_tied_by_default
    if told is not None or checkpoint.infos[head].tied_to:
        return told is False and not checkpoint.infos[head].tied_to
    return bool((checkpoint[head] != checkpoint[embedding]).any())


def configured(config: Mapping[str, object], keys: Collection[str]) -> int | None:
    """The number that a config gives under all of some keys, of which `a.b` stands in a part."""
    numbers: set[object] = set()
    for key in keys:
        value: object = config
        for word in key.split("."):
            value = value.get(word) if isinstance(value, Mapping) else None
        numbers |= set() if value is None else {value}
    number = next(iter(numbers), None)
    return number if len(numbers) == 1 and type(number) is int and number > 0 else None


def _choices(known: Mapping[str, int | None], wanted: Collection[str]) -> Iterator[dict[str, int]]:
    """Numbers of heads to try: keys and values may have any that divides the queries'."""
    numbers = {symbol: number for symbol, number in known.items() if number is not None}
    heads = numbers.get("heads")
    if heads is None or _KV not in wanted:
        yield numbers
        return
    for kv in range(1, min(heads, 4096) + 1):
        if heads % kv == 0:
            yield {**numbers, _KV: kv, f"heads/{_KV}": heads // kv}


def solved(
    lines: Expansion, stays: Collection[str], shapes: Shapes, numbers: Mapping[str, int],
    sizes_known: Mapping[str, int] = MappingProxyType({}),
) -> Spec | None:  # fmt: skip
    """The spec of lines for a file's shapes and numbers of heads; None where these contradict them.

    Axes with a number of heads that is not given stay in place, and so do the groups in `stays`. Of some
    groups the sizes may be known otherwise.
    """
    sizes = {_word(group): numbers.get(text) for group, text in lines.sizes.items()}
    known = {group: n for group, n in sizes.items() if n is not None}
    unknown = sizes.keys() - known.keys()
    axes, beside = {}, set[str]()
    for name, text in lines.axes.items():
        axes[name], opaque = _parsed(text, name, unknown)
        beside |= opaque
    spec = Spec(axes, basis=Basis.TEMPLATE)
    groups = set(spec.groups())
    known = {**sizes_known, **known}
    spec = replace(spec, sizes={group: n for group, n in known.items() if group in groups})
    try:
        found = solve_sizes(spec, {name: shapes[name] for name in axes})
    except SpecError:
        return None
    held = {g for g in groups if g.startswith(_FREE)} | {*stays, *beside} & groups
    return spec.holding({group: found[group] for group in held})


def _word(group: str) -> str:
    return _LENGTH.sub(rf"{_FREE}\1", group)


def _parsed(text: str, name: str, unknown: Collection[str]) -> tuple[Axes, set[str]]:
    """A line's axes, with lengths as groups; and the groups beside those whose size nobody knows.

    An axis with such a group is a length, the same wherever the axis is written so.
    """
    axes = []
    beside = set()
    for number, part in enumerate(_word(text).split()):
        first, *others = part.split("?")
        free = (f"{_FREE}any.{_plain(name)}.{number}.{k}{after}" for k, after in enumerate(others))
        (axis,) = parse_axes(first + "".join(free), name)
        groups = set(axis.groups())
        if groups & set(unknown):
            beside |= groups - set(unknown)
            (bare,) = without_marks((axis,))
            (axis,) = parse_axes(f"{_FREE}whole.{_plain(str(bare))}", name)
        axes.append(axis)
    return tuple(axes), beside


def _plain(text: str) -> str:
    return re.sub(r"\W", lambda m: f"_{ord(m[0])}_", text, flags=re.ASCII)


def _with_ties(spec: Spec, checkpoint: Checkpoint) -> Spec | None:
    """The spec without marks where tied tensors differ in these; None where they differ in more."""
    ties = [(n, info.tied_to) for n, info in checkpoint.infos.items() if info.tied_to]
    if all(spec.axes.get(name) == spec.axes.get(str(first)) for name, first in ties):
        return spec
    spec = replace(spec, axes={name: without_marks(axes) for name, axes in spec.axes.items()})
    return spec if all(spec.axes.get(name) == spec.axes.get(str(first)) for name, first in ties) else None


def _described(spec: Spec, matches: list[_Match], config: Mapping[str, object]) -> Spec:
    """The spec with where it comes from, what it takes for granted, and why the stream stays."""
    names = list(dict.fromkeys(name for one in matches for name in one.variant.names))
    classes = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    template = matches[0].template
    source = f"the template {template.name} ({classes}), traced with {template.traced_with}"
    assumption = f"it computes what {classes} computes, whose tensors it has"
    held = {name: one for one in reversed(matches) for name in one.variant.stays}
    stays = [
        f"{_WORDS.get(g, g)} stays in place: it may be an output of {held[g].variant.name}" for g in held
    ]
    return replace(
        spec, source=source, assumptions=() if "model_type" in config else (assumption,),
        stays=(*spec.stays, *stays),
    )  # fmt: skip
