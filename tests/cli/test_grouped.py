from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from deepalign_cli.cli.grouped import grouped


@dataclass(frozen=True)
class Colours:
    red: Annotated[int, typer.Option("--red", help="How red.")] = 1
    blue: Annotated[str | None, typer.Option("--blue")] = None


def paint(name: Annotated[str, typer.Argument()], colours: Colours, wide: bool = False) -> int:
    """Paint.

    Example:
        paint x
    """
    typer.echo(f"{name} {colours} {wide}")
    return 3


def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(grouped(paint))
    return made


def test_options_of_a_group_reach_the_command_as_the_group() -> None:
    result = CliRunner().invoke(app(), ["wall", "--red", "5", "--wide"])

    assert result.stdout == f"wall {Colours(red=5)} True\n"


def test_what_is_not_given_has_the_group_s_default() -> None:
    assert CliRunner().invoke(app(), ["wall"]).stdout == f"wall {Colours()} False\n"


def test_help_shows_the_options_of_a_group() -> None:
    shown = CliRunner().invoke(app(), ["--help"]).stdout

    assert "--red" in shown
    assert "How red." in shown


def test_name_and_words_are_the_command_s() -> None:
    made = grouped(paint)

    assert made.__name__ == "paint"
    assert made.__doc__ == paint.__doc__


def test_an_option_that_a_group_and_the_command_both_have_is_a_mistake() -> None:
    def twice(colours: Colours, red: int = 2) -> None:
        """Nothing."""

    with pytest.raises(TypeError, match="red"):
        grouped(twice)
