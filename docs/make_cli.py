"""Bring the help texts in docs/cli.md, and the tables made from the package's tables, up to date.

    python docs/make_cli.py            # rewrite docs/cli.md, docs/specs.md, README.md and the schema
    python docs/make_cli.py --check    # exit 1 if one is stale

The pages are written by hand but for the blocks after `<!-- help: COMMAND -->`, which hold what
`deepalign COMMAND --help` prints on a plain terminal of 100 columns, and those after `<!-- table: NAME -->`,
which hold the rows of `deepalign methods`, of the refinements or of the templates.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from deepalign_cli.aligners import methods
from deepalign_cli.aligners.refinements import REFINEMENTS
from deepalign_cli.cli.main import COMMANDS, PROGRAM, build
from deepalign_cli.cli.merge_recipe import schema_of
from deepalign_cli.combiners import table as combiners
from deepalign_cli.symmetry.template import Template, templates

REFERENCE = Path(__file__).with_name("cli.md")
README = Path(__file__).parents[1] / "README.md"
SPECS = Path(__file__).with_name("specs.md")
SCHEMA = Path(__file__).with_name("merge-recipe.schema.json")
WIDTH = 100
_BLOCK = re.compile(r"(<!-- help: (?P<name>[\w-]+) -->\n```text\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n)(?:\|.*\n)*")


def help_texts() -> dict[str, str]:
    """The help of the program, and of each command, by name."""
    program: Any = typer.main.get_command(build(COMMANDS, rich_help=False))
    size = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    top = program.context_class(program, info_name=PROGRAM, **program.context_settings, **size)
    texts = {PROGRAM: program.get_help(top)}
    for name, command in program.commands.items():
        context = command.context_class(command, info_name=name, parent=top, **size)
        texts[name] = command.get_help(context)
    return {name: _trimmed(text) for name, text in texts.items()}


def tables() -> dict[str, str]:
    """The tables by name, in Markdown."""
    return {
        "methods": _table(
            ("`-m`", "", "data", "options", "paper"),
            ((_named(m, methods.DEFAULT), m.help, m.data.value, _options(m), m.paper)
             for m in methods.METHODS.values()),
        ),
        "combiners": _table(
            ("`--combine`", "", "inputs", "options", "paper"),
            ((_named(c, combiners.DEFAULT), c.help, _inputs(c), _options(c), c.paper)
             for c in combiners.COMBINERS.values()),
        ),
        "refinements": _table(
            ("`kept`", "", "data", "`--refine`"),
            ((f"`{r.name}`", r.keeps, "required" if r.data else "none",
              f"`{r.name}`: {r.help}" if r.help else "only by `auto`") for r in REFINEMENTS.values()),
        ),
        "templates": _table(
            ("template", "classes of transformers", "number of heads"),
            ((f"`{t.name}`", _classes(t), _heads(t)) for t in templates()),
        ),
    }  # fmt: skip


def refreshed(page: str) -> str:
    """A page with the tables of this version.

    Raises:
        ValueError: there is no table of that name.
    """
    texts = tables()
    for match in _TABLE.finditer(page):
        if match["name"] not in texts:
            raise ValueError(f"there is no table {match['name']}, but {', '.join(texts)}")
    return _TABLE.sub(lambda match: f"{match[1]}{texts[match['name']]}", page)


def refreshed_reference(page: str) -> str:
    """The page of the commands with the help texts and tables of this version.

    Raises:
        ValueError: a command has no block, or a block no command.
    """
    texts = help_texts()
    blocks = [match["name"] for match in _BLOCK.finditer(page)]
    if sorted(blocks) != sorted(texts):
        raise ValueError(f"docs/cli.md has the blocks {sorted(blocks)} where {sorted(texts)} belong")
    return refreshed(_BLOCK.sub(lambda match: f"{match[1]}{texts[match['name']]}\n", page))


def schema(_: str = "") -> str:
    """The JSON schema of recipes for `merge`, whatever the old one was."""
    program: Any = typer.main.get_command(build(COMMANDS, rich_help=False))
    return json.dumps(schema_of(program.commands["merge"].params), indent=2) + "\n"


PAGES = {README: refreshed, REFERENCE: refreshed_reference, SPECS: refreshed, SCHEMA: schema}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *map(tuple, rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _named(row: Any, default: str) -> str:
    return f"`{row.name}`" + (" (default)" if row.name == default else "")


def _options(row: Any) -> str:
    return ", ".join(f"`{parameter.option}`" for parameter in row.parameters)


def _inputs(row: Any) -> str:
    if row.most == row.least:
        count = str(row.most)
    else:
        count = (
            f"at most {row.most}" if row.most else f"{row.least} or more" if row.least > 1 else "any number"
        )
    base = " and `--base`" if row.needs_base else ", with or without `--base`" if row.base else ""
    return count + base


def _classes(template: Template) -> str:
    names = dict.fromkeys(name.split()[0] for v in template.variants for name in v.names)
    return ", ".join(f"`{name}`" for name in names)


def _heads(template: Template) -> str:
    if not template.sizes:
        return "in the shapes, or none"
    keys = ", ".join(f"`{key}`" for keys in template.heads.values() for key in keys)
    return keys + (" or `--heads`" if len(template.heads) == 1 else "")


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def main() -> int:
    """Rewrite the pages, or check them."""
    parser = argparse.ArgumentParser(description="Bring help texts and tables in the pages up to date.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is stale")
    check = parser.parse_args().check
    stale = False
    for path, renew in PAGES.items():
        old = path.read_text(encoding="utf-8")
        new = renew(old)
        stale |= new != old
        if not check:
            path.write_text(new, encoding="utf-8")
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
