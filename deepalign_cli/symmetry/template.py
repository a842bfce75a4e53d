"""Templates: the spec of an architecture of any width and depth, as a table of its tensors.

A template is a TOML file in `templates/`, written by `benchmarks/make_templates.py` from traces. A line has
a tensor's name, with `{i}` for the number of its layer, and its axes: as in a spec, but that `?` is a length
of whatever it is, and `{name}` one that is the same wherever it stands.

    prefix = "bert."
    [axes]
    "embeddings.word_embeddings.weight" = "{vocab_size} stream"
    "encoder.layer.{i}.intermediate.dense.weight" = "encoder.layer.{i}.intermediate.dense stream"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from deepalign_cli.symmetry.turned_lines import LAYER, TurnedLines, read_turned

FORMAT = 1
FOLDER = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Variant:
    """The tensors of one class, by their whole names: axes, which may be absent, which groups stay.

    `turned` is what turns, `untied` what turns where its head is not tied to the embedding; None where that
    is not known.
    """

    name: str
    also: tuple[str, ...]
    axes: Mapping[str, str]
    optional: frozenset[str]
    stays: frozenset[str]
    turned: TurnedLines | None = None
    untied: TurnedLines | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that have these tensors and this spec; a class of two layouts has a word behind it."""
        return (self.name.split()[0], *self.also)


@dataclass(frozen=True)
class Template:
    """An architecture. `heads` has for each number of heads the keys of config.json that tell it.

    `sizes` says which groups (and lengths) are that many; `prefix` is what stands before the tensors of the
    body, and may be left out.
    """

    name: str
    traced_with: str
    model_types: tuple[str, ...]
    prefix: str
    heads: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, str]
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Expansion:
    """A variant's lines for the layers that a file has: axes by tensor, and groups of a known number.

    `names` has the file's name of each of its tensors, by the template's; `layers` is the most of any kind.
    """

    axes: Mapping[str, str]
    sizes: Mapping[str, str]
    names: Mapping[str, str] = field(default_factory=dict)
    layers: int = 0


@cache
def templates() -> tuple[Template, ...]:
    """All templates, in the order of their names."""
    return tuple(read_template(path) for path in sorted(FOLDER.glob("*.toml")))


def read_template(path: Path) -> Template:
    """Read a template that is shipped; a broken one raises what tomllib or a missing key raises."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if table["format"] != FORMAT:
        raise ValueError(f"{path.name} has the format {table['format']}")
    variants = (_variant(name, entry, table) for name, entry in table["classes"].items())
    return Template(
        name=path.stem,
        traced_with=table["traced_with"],
        model_types=tuple(table["model_types"]),
        prefix=table["prefix"],
        heads={name: tuple(keys) for name, keys in table.get("heads", {}).items()},
        sizes=table.get("sizes", {}),
        variants=tuple(variants),
    )


def _variant(name: str, entry: Mapping[str, Any], table: Mapping[str, Any]) -> Variant:
    before = "" if entry.get("bare") else table["prefix"]
    body = {**table.get("axes", {}), **entry.get("body", {})}
    body = {pattern: text for pattern, text in body.items() if pattern not in entry.get("lacks", ())}
    optional = {before + p for p in (*table.get("optional", ()), *entry.get("optional", ())) if p in body}
    return Variant(
        name=name,
        also=tuple(entry.get("also", ())),
        axes={**{before + pattern: text for pattern, text in body.items()}, **entry.get("axes", {})},
        optional=frozenset(optional | set(entry.get("optional", ()))),
        stays=frozenset(entry.get("stays", ())),
        turned=read_turned(entry["turned"]) if "turned" in entry else None,
        untied=read_turned(entry["untied"]) if "untied" in entry else None,
    )


def expansion(
    template: Template, variant: Variant, names: Collection[str], cut: str = ""
) -> Expansion | None:
    """The variant for the layers that `names` show; None where they are not its tensors, one and all.

    `cut` is a prefix that the file leaves out.
    """
    lines = {pattern.removeprefix(cut): text for pattern, text in variant.axes.items()}
    if len(lines) < len(variant.axes):
        return None
    optional = {pattern.removeprefix(cut) for pattern in variant.optional}
    if any(LAYER not in p and p not in names and p not in optional for p in lines):
        return None
    axes: dict[str, str] = {}
    counts = {}
    for before in {pattern.partition(LAYER)[0] for pattern in lines if LAYER in pattern}:
        counts[before] = _layers(before, names)
        if not counts[before]:
            return None
    called: dict[str, str] = {}
    for whole, (pattern, text) in zip(variant.axes, lines.items(), strict=True):
        copies = list(_copies(pattern, text, counts))
        present = sum(name in names for name, _ in copies)
        if present == len(copies):
            axes.update(copies)
            before = whole.removesuffix(pattern)
            called |= {before + name: name for name, _ in copies}
        elif present or pattern not in optional:
            return None
    if len(axes) < len(names):
        return None
    most = max(counts.values(), default=1)
    sizes = {
        group.replace(LAYER, str(i)): number
        for group, number in template.sizes.items()
        for i in (range(most) if LAYER in group else (0,))
    }
    return Expansion(axes, sizes, called, most)


def _layers(before: str, names: Collection[str]) -> int:
    """How many layers have names that begin so; 0 where their numbers have gaps."""
    numbers = {m[1] for name in names if (m := re.match(rf"{re.escape(before)}(\d{{1,5}})\.", name))}
    return len(numbers) if numbers == {str(i) for i in range(len(numbers))} else 0


def _copies(pattern: str, text: str, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    if LAYER not in pattern:
        yield pattern, text
        return
    for i in map(str, range(counts[pattern.partition(LAYER)[0]])):
        yield pattern.replace(LAYER, i), text.replace(LAYER, i)
