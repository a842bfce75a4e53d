"""The model card of a merged network: a README.md with what the Hugging Face Hub reads at its head.

Names, notes and metadata may come from strangers: they are written as text that is neither markup nor HTML.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.measure.curve import Curve
from deepalign_cli.operations.merge_cost import Measured
from deepalign_cli.symmetry.basis import Basis

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#|~!&$@])")


@dataclass(frozen=True)
class Ingredient:
    """One input: what it is called, and its weight in the result (None for a base, or where it has none).

    `repository` is its name on the Hub where it came from there; `distances` are those to the first input
    before and after it was aligned. `role` is what it is in the place of a share.
    """

    name: str
    sha256: str
    share: float | None
    repository: str | None = None
    distances: tuple[float, float] | None = None
    is_base: bool = False
    role: str = ""


@dataclass(frozen=True)
class Facts:
    """What a card tells. `making` says how the alignment was found, `command` makes the network again.

    `library` is what loads the folder; `moved` are the units that were moved, and all units, `turned` tells
    the groups that were turned, `basis` is what the spec rests on; `networks` are the losses of the inputs
    and the result, `curves` those along the path, and `picture` names a drawing of them beside the card.
    `recipe` is what `merge --recipe` reads. `sentence` says what the network is where no combiner does.
    """

    title: str
    inputs: Sequence[Ingredient]
    method: str
    combiner: str
    making: Mapping[str, str]
    command: Sequence[str]
    library: str
    moved: tuple[int, int]
    basis: str
    notes: Sequence[str] = ()
    networks: Sequence[Measured] = ()
    curves: Sequence[Curve] = field(default=())
    picture: str | None = None
    turned: str = ""
    recipe: str = ""
    sentence: str = ""


def card(facts: Facts) -> str:
    """The card as Markdown."""
    parts = [
        _front(facts),
        f"# {escaped(facts.title)}",
        _summary(facts),
        "## Inputs",
        _inputs(facts.inputs),
        "## How it was made",
        _making(facts),
        *_command(facts.command),
        *_recipe(facts.recipe),
        *_cost(facts),
        "## Notes and limits",
        _limits(facts),
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """The text in one line, with all that Markdown or HTML would make something of escaped."""
    plain = _MARKUP.sub(r"\\\1", _visible(text)).strip()
    return re.sub(r"^(\d*)([-+=.])", r"\1\\\2", plain) or "unnamed"  # no item of a list, no rule


def code(text: str) -> str:
    """The text as a code span, safe inside a table; a dash if it is empty."""
    text = _visible(text).replace("|", r"\x7c")
    if not text.strip():
        return "-"
    fence = _fence(text)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{space}{text}{space}{fence}"


def _fence(text: str) -> str:
    """More backticks than the text has in a row."""
    return "`" * (1 + max(map(len, re.findall("`+", text)), default=0))


def _visible(text: str) -> str:
    """Printable characters as they are; line ends, controls, marks of direction and the like spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _front(facts: Facts) -> str:
    """The YAML that the Hub reads; a JSON string is one of YAML too."""
    repositories = dict.fromkeys(one.repository for one in facts.inputs if one.repository)
    lines = ["---", f"library_name: {json.dumps(facts.library)}"]
    if repositories:
        lines += ["base_model:", *(f"- {json.dumps(name)}" for name in repositories)]
        lines.append("base_model_relation: merge")
    return "\n".join([*lines, "tags:", "- merge", "- deepalign", "---"])


def _summary(facts: Facts) -> str:
    row = None if facts.sentence else COMBINERS.find(facts.combiner)
    what = row.sentence.format(count=len(facts.inputs)) if row else facts.sentence
    if row and row.encodes:  # which is the same however units are ordered
        return what
    if facts.method == "none":
        return f"{what} Their hidden units were not aligned."
    if not facts.moved[0]:
        before = "that" if facts.sentence else "they were combined"
        return f"{what} No hidden unit was moved before {before}."
    checked = facts.basis == Basis.TRACED
    function = (
        ", and the network was run to check that this leaves its function as it was." if checked else "."
    )
    before = "Before that" if facts.sentence else "Before they were combined"
    return (
        f"{what} {before}, the hidden units of each were moved onto those of the first. "
        f"What may move was {escaped(facts.basis)}{function}"
    )


def _inputs(inputs: Sequence[Ingredient]) -> str:
    rows = []
    for one in inputs:
        before, after = (f"{d:.4g}" for d in one.distances) if one.distances else ("-", "-")
        share = "base" if one.is_base else "-" if one.share is None else f"{one.share:.4g}"
        rows.append([code(one.name), one.role or share, before, after, code(one.sha256)])
    return _table(["network", "share", "distance to the first", "after alignment", "sha256"], rows)


def _making(facts: Facts) -> str:
    moved, units = facts.moved
    rows = [["method", code(facts.method)], *([escaped(key), code(v)] for key, v in facts.making.items())]
    turned = [["turned", escaped(facts.turned)]] if facts.turned else []
    return _table(["", ""], [*rows, ["units moved", f"{moved:,} of {units:,}"], *turned])


def _command(command: Sequence[str]) -> list[str]:
    """What makes it again; nothing where it was not made by a command."""
    if not command:
        return []
    text = _visible(shlex.join(command))
    fence = max("```", _fence(text), key=len)
    words = "To make it again (files are named without their folders; the hashes identify them):"
    return [f"{words}\n\n{fence}sh\n{text}\n{fence}"]


def _recipe(text: str) -> list[str]:
    """The recipe, which its lines may not leave; nothing where there is none."""
    if not text:
        return []
    lines = "\n".join(map(_visible, text.splitlines()))
    fence = max("```", _fence(lines), key=len)
    return [f"Or from this recipe, by `deepalign merge --recipe`:\n\n{fence}toml\n{lines}\n{fence}"]


def _cost(facts: Facts) -> list[str]:
    """The losses of all networks, the path between two, and its picture; nothing where none was measured."""
    if not facts.networks:
        return []
    heads = ["network", "data", "loss", "accuracy"]
    rows = [
        [code(n.name) if i < len(facts.inputs) else f"**{n.name}**", code(n.data), _figure(n.loss),
         _percent(n.accuracy)]
        for i, n in enumerate(facts.networks)
    ]  # fmt: skip
    return ["## What it costs", _table(heads, rows), *_path(facts)]


def _path(facts: Facts) -> list[str]:
    if not facts.curves:
        return []
    heads = ["method", "data", "barrier", "AUC", "midpoint loss", "midpoint accuracy"]
    rows = [
        [code(c.method), code(c.data), _figure(c.barrier), _figure(c.auc), _figure(c.midpoint_loss),
         _percent(c.midpoint_accuracy)]
        for c in facts.curves
    ]  # fmt: skip
    words = (
        "The loss along the path from the first network to the second: how far it rises above the line "
        "between its ends (barrier), the area above that line (AUC), and its value at the midpoint."
    )
    picture = [f"![Loss along the path](<{facts.picture}>)"] if facts.picture else []
    return [words, _table(heads, rows), *picture]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _limits(facts: Facts) -> str:
    tested = "The figures above hold for the data that they were measured on."
    if not facts.networks:
        tested = "No loss was measured when it was made: test it before you use it."
    licences = "It is derived from its inputs: their licences hold for it too."
    return "\n".join(f"- {line}" for line in (tested, *map(escaped, facts.notes), licences))


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
