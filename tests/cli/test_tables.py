from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pytest

from deepalign_cli.aligners.methods import DEFAULT, METHODS
from deepalign_cli.cli.main import main
from deepalign_cli.cli.tables import METHOD_HELP, Method, options_of, parameters_of
from deepalign_cli.parameters import Parameter


@dataclass(frozen=True)
class Row:
    name: str
    parameters: tuple[Parameter, ...]


WIDTH = Parameter("width", int, 3, "How wide.", 1, 8)
LAMBDA = Parameter("lambda_", float, 1.0, "How much.")
MOOD = Parameter("mood", str, "calm", "Which mood.", choices=("calm", "wild"))
PLACE = Parameter("place", str, "", "Where.", metavar="PATH")
ROWS = (Row("one", (WIDTH, MOOD)), Row("two", (WIDTH, LAMBDA, PLACE)))


@dataclass(frozen=True)
class Base:
    seed: int = 0


Options: Any = options_of("Options", ROWS, "-x", "Panel", Base)
NOTHING = Options()


def show(text: str, more: Options = NOTHING, method: Method = None) -> None:
    """Show it.

    Example:
        deepalign show x
    """
    print(vars(more), method)  # noqa: T201


def other() -> None:
    """Do nothing.

    Example:
        deepalign other
    """


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["show", "x", *words], [show, other])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_parameter_knows_who_uses_it() -> None:
    assert parameters_of(ROWS) == {
        "width": (WIDTH, ("one", "two")), "mood": (MOOD, ("one",)), "lambda_": (LAMBDA, ("two",)),
        "place": (PLACE, ("two",)),
    }  # fmt: skip


def test_every_parameter_is_an_option_that_is_none_where_it_is_not_given() -> None:
    assert [field.name for field in fields(Options)] == ["seed", "width", "mood", "lambda_", "place"]
    assert Options() == Options(0, None, None, None, None)


def test_values_are_read_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run("--width", "8", "--lambda", "0.5", "--mood", "wild", "--place", "here", capsys=capsys)
    assert code == 0
    assert "'width': 8, 'mood': 'wild', 'lambda_': 0.5, 'place': 'here'" in told
    for words, message in (
        (("--width", "9"), "--width"),
        (("--width", "1.5"), "--width"),
        (("--mood", "sad"), "--mood is 'sad'"),
        (("--lambda", "much"), "--lambda"),
    ):
        code, told = run(*words, capsys=capsys)
        assert code == 2
        assert told.startswith("error: ")
        assert message in told


def test_help_says_who_uses_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run("--help", capsys=capsys)
    told = " ".join(told.split())
    assert code == 0
    assert "How wide. For -x one and two." in told
    assert "--mood calm|wild" in told
    assert "--place PATH" in told
    assert "--lambda X" in told


def test_methods_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(f"{name}: {row.help}" in METHOD_HELP for name, row in METHODS.items() if name != DEFAULT)
    assert "deepalign, the default: " in METHOD_HELP
    assert run("-m", "dual", capsys=capsys)[1].endswith("} dual\n")
    code, told = run("-m", "magic", capsys=capsys)
    assert code == 2
    assert "there is no method 'magic'" in told
    assert "there are deepalign, weights" in told
