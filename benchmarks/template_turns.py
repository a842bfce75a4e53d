"""What turns in a template's class, from traces in two sizes: kinds, gains, and the lines that differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import transformers
from template_nets import Case
from torch import nn

from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.template import LAYER
from deepalign_cli.tracing.turn_proposals import is_stream

_SPLIT = re.compile(r"([ *|()])")
Tables = dict[str, dict[str, Any]]  # by what they are called in a class: turned, or untied


@dataclass(frozen=True)
class Head:
    """The tensors of a head that is not tied to its embedding, and whether such heads are by default."""

    head: str
    embedding: str
    tied_by_default: bool


def untied_head(module: Any, case: Case, stored: Mapping[str, str]) -> Head | None:
    """The head of a language model, by stored names, where it is a tensor of its own."""
    find = getattr(module, "get_output_embeddings", None)
    out = find() if find else None
    if out is None or not isinstance(out, nn.Module) or module.config.tie_word_embeddings:
        return None
    names = {id(w): name for name, w in module.state_dict(keep_vars=True).items()}
    head, embedding = (names[id(one.weight)] for one in (out, module.get_input_embeddings()))
    is_default = getattr(transformers, case.config)().tie_word_embeddings
    return Head(stored[head], stored[embedding], bool(is_default))


def both_turned(a: Spec | None, b: Spec | None) -> Spec | None:
    """What turns in two cases of a class that share tensors; None where it is not the same."""
    if a is None or b is None or (a.kinds, a.plus_one) != (b.kinds, b.plus_one):
        return None
    if a.gains.keys() != b.gains.keys():
        return None
    gains = {gain: max(a.gains[gain], b.gains[gain], key=len) for gain in a.gains}
    if any({*one.gains[gain]} - {*gains[gain]} for one in (a, b) for gain in gains):
        return None
    return replace(a, axes={**b.axes, **a.axes}, gains=gains)


@dataclass(frozen=True)
class TurnedText:
    """What turns, by patterns: kinds of groups, lines of all tensors without marks, gains, and what stays."""

    kinds: dict[str, str]
    lines: dict[str, str]
    gains: dict[str, list[str]]
    plus_one: list[str]
    stays: list[str]


def turned_text(
    a: Spec, b: Spec, names: Iterable[str], group: Callable[[str], str], pattern: Callable[[str], str],
    text: Callable[[str, str, str], str],
) -> TurnedText:  # fmt: skip
    """Both sizes as one: `group` and `pattern` give what stands in the template for a group and a tensor.

    `text` is that for a tensor's axes in both.
    """
    if (a.kinds, a.gains, a.plus_one) != (b.kinds, b.gains, b.plus_one):
        raise SystemExit(f"what turns depends on the size: {a.kinds} and {b.kinds}")
    kinds: dict[str, str] = {}
    for name, kind in a.kinds.items():
        _put(kinds, group(name).replace("#", LAYER), kind.name)
    gains: dict[str, list[str]] = {}
    for gain, others in a.gains.items():
        _put(gains, pattern(gain), [pattern(other) for other in others])
    lines: dict[str, str] = {}
    for name in names:
        if name in a.axes and name in b.axes and name not in a.gains:
            _put(lines, pattern(name), _bare(text(name, *(format_axes(s.axes[name]) for s in (a, b)))))
    plus_one = sorted({pattern(gain) for gain in a.plus_one})
    stays = [line for line in a.stays if is_stream(line.split()[0])]
    return TurnedText(kinds, lines, gains, plus_one, stays)


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    if table.setdefault(key, value) != value:
        raise SystemExit(f"{key}: {value!r}, in another layer {table[key]!r}")


def _bare(text: str) -> str:
    return re.sub(r"[~+-]", "", text)


def turned_table(found: TurnedText, plain: Mapping[str, str], head: Head | None) -> dict[str, Any]:
    """The table of a template: with the lines that are not the plain ones but for the marks of what turns."""
    axes = {}
    for name, text in found.lines.items():
        line = _renamed(plain[name], text, name)
        axes |= {name: line} if line != plain[name] else {}
    of_head = vars(head) if head else {}
    table = {**of_head, "plus_one": found.plus_one, "stays": found.stays}
    return {
        **{key: value for key, value in table.items() if value or key == "tied_by_default"},
        "kinds": found.kinds,
        **({"axes": axes} if axes else {}),
        **({"gains": found.gains} if found.gains else {}),
    }


def _renamed(plain: str, text: str, name: str) -> str:
    """A line with groups in the place of numbers, where another has them."""
    ones, others = _SPLIT.split(plain), _SPLIT.split(text)
    if len(ones) != len(others):
        raise SystemExit(f"{name}: {plain!r}, and with what turns {text!r}")
    pairs = zip(ones, others, strict=True)
    return "".join(b if _is_number(a) and not _is_number(b) else a for a, b in pairs)


def _is_number(token: str) -> bool:
    return token.isdigit() or token.startswith(("{", "?"))
