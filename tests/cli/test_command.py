"""Help in real terminals, options given twice, and American spellings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len

from deepalign_cli.cli import main as cli
from deepalign_cli.cli.command import example
from tests.cli.terminal import on_a_terminal
from tests.operations.making import deepalign

_ALL_HELP = """
from deepalign_cli.cli.main import COMMANDS, main
for command in (None, *COMMANDS):
    print("\\0", end="")
    print(main([*([command.__name__] if command else []), "--help"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_help_on_a_terminal(columns: int) -> None:
    program = typer.main.get_command(cli.build(cli.COMMANDS, rich_help=False))
    texts = on_a_terminal(_ALL_HELP, columns).split("\0")[1:]

    assert len(texts) == 1 + len(cli.COMMANDS)
    for command, text in zip((program, *program.commands.values()), texts, strict=True):
        assert text.endswith("\n0\n"), text
        assert ("╭" in text) == (columns >= 80)
        assert "…" not in text
        assert max(map(cell_len, text.splitlines())) <= columns
        for parameter in (one for one in command.params if not getattr(one, "hidden", False)):
            names = [name for name in parameter.opts if name.startswith("-")]
            assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", text) for name in names), parameter.name
            if columns in (40, 200):  # where no other column is folded beside the text
                assert squashed(parameter.help) in squashed(text)
        if columns >= 120 and command.name in ("align", "merge", "barrier"):
            assert " hf://ORG/REPO[@REVISION][/FILE]." in text


def squashed(text: str) -> str:
    """Without what lays it out."""
    return re.sub(r"[\s│]", "", text)


def test_an_example_is_continued_as_shells_do() -> None:
    line = "deepalign merge a.pt b.pt --repair x.npz -q -o out.safetensors"

    assert example(line, 80) == f"  {line}"
    assert example(line, 37).split("\n") == [
        "  deepalign merge a.pt b.pt \\", "      --repair x.npz -q \\", "      -o out.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["merge", "a", "b", "--alpha", ".2", "--alpha", ".8"], "--alpha"),
        (["merge", "a", "b", "--alpha=.2", "c", "--alpha=.2"], "--alpha"),
        (["align", "a", "b", "-o", "x", "--output", "y"], "--output"),
        (["align", "a", "b", "-qox", "-o", "y"], "--output"),
        (["barrier", "a", "b", "--data", "d", "--normalise", "unit", "--normalize", "unit"], "--normalise"),
    ],
)
def test_an_option_of_one_value_is_given_once(words: list[str], name: str) -> None:
    done = deepalign(*words)

    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: {name} is given twice\nhint: leave one out\n"
    assert deepalign(*words, "--help").code == 0


def test_lists_and_flags_may_be_given_twice(tmp_path: Path) -> None:
    words = ["-m", "none", "-m", "weights", "--split", "a", "--split", "b", "--force", "--force", "-q", "-q"]

    assert "a does not exist" in deepalign("barrier", tmp_path / "a", "b", "--data", "d", *words).err
    assert "a does not exist" in deepalign("merge", tmp_path / "a", "--", "--alpha", "--alpha").err


def test_american_spellings() -> None:
    done = deepalign("align", "a", "b", "--normalize", "unit", "--gray")

    assert done.code == 2
    assert "without --data, --normalise has no effect" in done.err
    assert "--normalize" not in deepalign("align", "--help").out
