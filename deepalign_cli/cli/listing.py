"""`deepalign methods`: what -m and --combine take, with papers, options and what they need."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from deepalign_cli.aligners import methods as method_table
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.cli.options import ShowOptions
from deepalign_cli.cli.output import TextTable
from deepalign_cli.combiners import table as combiner_table
from deepalign_cli.combiners.combiner import Combiner
from deepalign_cli.combiners.table import COMBINERS


def methods(*, show: ShowOptions) -> None:
    """List the methods of -m and the combiners of --combine.

    The list includes those of other installed packages.

    Example:
        deepalign methods
        deepalign methods --json
    """
    out = show.sink("methods")
    out.notes((*METHODS.problems, *COMBINERS.problems))
    payload = {
        "methods": [{**_row(row, method_table.DEFAULT), "data": row.data.value} for row in METHODS.values()],
        "combiners": [
            {**_row(row, combiner_table.DEFAULT), "least": row.least, "most": row.most, "base": _base(row)}
            for row in COMBINERS.values()
        ],
    }
    out.result(payload, lambda console: _show(console, payload))


def _row(row: Any, default: str) -> dict[str, Any]:
    parameters = [{"option": p.option, "default": p.default, "help": p.help} for p in row.parameters]
    return {
        "name": row.name, "default": row.name == default, "help": row.help, "paper": row.paper,
        "options": parameters,
    }  # fmt: skip


def _base(row: Combiner) -> str:
    return "required" if row.needs_base else "optional" if row.base else "none"


def _show(console: Console, payload: dict[str, list[dict[str, Any]]]) -> None:
    for kind, flag, need in (("methods", "-m", "data"), ("combiners", "--combine", "base")):
        rows = [
            [row["name"], row["help"], row[need], " ".join(o["option"] for o in row["options"]), row["paper"]]
            for row in payload[kind]
        ]
        console.print(TextTable([flag, "", need, "options", "paper"], rows))
