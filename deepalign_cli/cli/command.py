"""What all commands share: help that fits the terminal, a check that no option is repeated, recipes."""

from __future__ import annotations

import re
import shutil
import sys
from typing import Any

from rich.markup import escape
from rich.text import Text
from typer.core import TyperCommand

from deepalign_cli.cli.output import is_terminal
from deepalign_cli.errors import UsageError

_ENDLESS, _NARROW = sys.maxsize, 78  # columns


class Subcommand(TyperCommand):
    """One command of deepalign."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options as Typer does where help is plain; texts below names where it is narrow."""
        if formatter.width >= _NARROW:
            super().format_options(ctx, formatter)
            return
        params: list[Any] = self.get_params(ctx)
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            records = [one.get_help_record(ctx) for one in params if one.param_type_name == kind]
            with formatter.section(title):
                for name, text in filter(None, records):
                    formatter.write_text(name)
                    with formatter.indentation():
                        formatter.write_text(text)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command's name.

        Raises:
            UsageError: an option that takes one value is given twice; Typer would take the last.
        """
        given, _, order = self.make_parser(ctx).parse_args(list(args))
        options: list[Any] = [one for one in order if one.param_type_name == "option"]
        single = [one for one in options if not (one.multiple or one.is_flag)]
        twice = next((one for one in single if single.count(one) > 1), None)
        if twice and not ctx.resilient_parsing and not any(one.is_eager for one in options):
            raise UsageError(f"{max(twice.opts, key=len)} is given twice.", "leave one out.")
        if given.get("recipe") and not ctx.resilient_parsing and self.name == "merge":
            from deepalign_cli.cli.merge_recipe import recipe_words  # which few need

            args = [*recipe_words(self.params, given), *args]
        return super().parse_args(ctx, args)


def columns() -> int:
    """The width of the terminal; no limit where stdout is not one."""
    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else _ENDLESS


def example(line: str, width: int) -> str:
    """A command line, broken with backslashes where it is wider than `width`."""
    if len(line) + 2 <= width:
        return f"  {line}"
    lines = [""]
    for part in re.findall(r"(?:-\S+|>) [^-\s>]\S*|\S+", line):  # an option goes with its value
        if lines[-1].strip() and len(f" {lines[-1]} {part} \\") > width:
            lines[-1] += " \\"
            lines.append("    ")
        lines[-1] += f" {part}"
    return "\n".join(f" {one}" for one in lines)


def fold_words() -> None:
    """Make rich's help break words that are too long for their column instead of cutting them."""
    from typer import rich_utils

    class Folding(rich_utils.OptionHighlighter):
        def __call__(self, text: str | Text) -> Text:
            highlighted = super().__call__(text)
            highlighted.overflow = "fold"
            return highlighted

    rich_utils.highlighter = Folding()


def escaped(program: Any) -> Any:
    """The program with what rich would read as markup escaped in all texts."""
    commands = [program, *program.commands.values()] if program.rich_markup_mode == "rich" else []
    for thing in (one for command in commands for one in (command, *command.params)):
        for name in ("help", "short_help", "epilog"):
            if getattr(thing, name, None):
                setattr(thing, name, escape(getattr(thing, name)))
    return program
