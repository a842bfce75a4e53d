"""Bring the help texts in docs/cli.md up to date.

    python docs/make_cli.py            # rewrite docs/cli.md
    python docs/make_cli.py --check    # exit 1 if it is stale

The page is written by hand but for the blocks after `<!-- help: COMMAND -->`, which hold what
`deepalign COMMAND --help` prints on a plain terminal of 100 columns.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import typer

from deepalign_cli.cli.main import COMMANDS, PROGRAM, build

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 100
_BLOCK = re.compile(r"(<!-- help: (?P<name>[\w-]+) -->\n```text\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


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


def refreshed(page: str) -> str:
    """The page with the help texts of this version.

    Raises:
        ValueError: a command has no block, or a block no command.
    """
    texts = help_texts()
    blocks = [match["name"] for match in _BLOCK.finditer(page)]
    if sorted(blocks) != sorted(texts):
        raise ValueError(f"docs/cli.md has the blocks {sorted(blocks)} where {sorted(texts)} belong")
    return _BLOCK.sub(lambda match: f"{match[1]}{texts[match['name']]}\n", page)


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def main() -> int:
    """Rewrite the page, or check it."""
    parser = argparse.ArgumentParser(description="Bring the help texts in docs/cli.md up to date.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is stale")
    check = parser.parse_args().check
    old = PAGE.read_text(encoding="utf-8")
    new = refreshed(old)
    if check:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
