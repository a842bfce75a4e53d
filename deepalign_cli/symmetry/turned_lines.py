"""What turns in a template's class: what a trace found beside the lines of axes, for layers of any number.

Where a head may be tied to the embedding, there are two tables: of a tied head the stream only permutes.

    [classes.GPT2LMHeadModel.untied]
    head = "lm_head.weight"
    embedding = "transformer.wte.weight"
    kinds = {"h.{i}.attn.qk" = "orthogonal", stream = "centred orthogonal"}
    gains = {"transformer.ln_f.weight" = ["transformer.ln_f.bias", "lm_head.weight"]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deepalign_cli.symmetry.axes import without_marks
from deepalign_cli.symmetry.kinds import KINDS
from deepalign_cli.symmetry.spec import Spec

LAYER = "{i}"


@dataclass(frozen=True)
class TurnedLines:
    """Kinds by group, lines that differ, gains and what undoes them, by patterns; what stays, and why.

    Of a class whose head is not tied, `head` and `embedding` are the tensors that would be, and
    `is_tied_by_default` says what a config.json means that is silent on it.
    """

    kinds: Mapping[str, str]
    axes: Mapping[str, str]
    gains: Mapping[str, tuple[str, ...]]
    plus_one: frozenset[str]
    stays: tuple[str, ...]
    head: str = ""
    embedding: str = ""
    is_tied_by_default: bool = False

    def expanded(self, layers: int) -> dict[str, str]:
        """The lines that differ, for so many layers."""
        each = ((name, text, i) for name, text in self.axes.items() for i in _numbers(name, layers))
        return {name.replace(LAYER, i): text.replace(LAYER, i) for name, text, i in each}


def read_turned(table: Mapping[str, Any]) -> TurnedLines:
    """What stands in a template; a broken one raises what a missing key raises."""
    return TurnedLines(
        kinds=table["kinds"],
        axes=table.get("axes", {}),
        gains={gain: tuple(others) for gain, others in table.get("gains", {}).items()},
        plus_one=frozenset(table.get("plus_one", ())),
        stays=tuple(table.get("stays", ())),
        head=table.get("head", ""),
        embedding=table.get("embedding", ""),
        is_tied_by_default=table.get("tied_by_default", False),
    )


def with_turns(spec: Spec, lines: TurnedLines, names: Mapping[str, str], layers: int) -> Spec:
    """The spec in which the groups turn that these lines say, as far as they are there.

    `names` has the spec's name of every tensor of the lines that is there.
    """
    groups = {*spec.groups()}
    each = ((p.replace(LAYER, i), kind) for p, kind in lines.kinds.items() for i in _numbers(p, layers))
    kinds = {group: KINDS[kind] for group, kind in each if group in groups}
    gains = {}
    for pattern, others in lines.gains.items():
        for i in _numbers(pattern, layers):
            gain = names.get(pattern.replace(LAYER, i), "")
            if {group for axis in spec.axes.get(gain, ()) for group in axis.groups()} & kinds.keys():
                undoing = (other.replace(LAYER, i) for other in others)
                gains[gain] = tuple(names[other] for other in undoing if other in names)
    plus_one = {names.get(n.replace(LAYER, i), "") for n in lines.plus_one for i in _numbers(n, layers)}
    keep = frozenset(groups).difference(kinds)
    axes = {name: without_marks(one, keep) for name, one in spec.axes.items() if name not in gains}
    return replace(
        spec, axes=axes, kinds={**spec.kinds, **kinds}, gains=gains,
        plus_one=frozenset(plus_one & gains.keys()), stays=(*spec.stays, *lines.stays),
    )  # fmt: skip


def _numbers(pattern: str, layers: int) -> tuple[str, ...]:
    """What stands for the number of a layer in turn; nothing, once, where there is none."""
    return tuple(map(str, range(layers))) if LAYER in pattern else ("",)
