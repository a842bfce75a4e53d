from __future__ import annotations

import math

import pytest

from deepalign_cli.errors import UsageError
from deepalign_cli.parameters import Parameter, load, values_of

COUNT = Parameter("count", int, 3, "How many.", least=1, most=8)
SHARE = Parameter("share", float, 0.5, "How much.", 0, 1)
EACH = Parameter("density", float, 1.0, "How many.", above=0, most=1, each=True)
MOOD = Parameter("mood", str, "calm", "Which.", choices=("calm", "wild"))


def test_an_option_is_typed_with_dashes() -> None:
    assert [Parameter(name, int, 0, "").option for name in ("count", "lambda_", "batch_size")] == [
        "--count", "--lambda", "--batch-size",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parameter", "value", "message", "hint"),
    [
        (COUNT, 0, "--count is 0.", "at least 1 and at most 8"),
        (COUNT, 9, "--count is 9.", "at least 1 and at most 8"),
        (SHARE, -0.5, "--share is -0.5.", "at least 0 and at most 1"),
        (SHARE, math.nan, "--share is nan.", "at least 0"),
        (EACH, 0.0, "--density is 0.", "above 0 and at most 1"),
        (EACH, [0.5, 1.5], "--density is 1.5.", "above 0 and at most 1"),
        (EACH, "half", "--density is 'half'.", "a number, or one for each input"),
        (EACH, math.inf, "--density is inf.", "a number, or one for each input"),
        (MOOD, "sad", "--mood is 'sad'.", "calm, wild"),
    ],
)
def test_a_value_that_may_not_be_used(parameter: Parameter, value: object, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        values_of([parameter], {parameter.name: value})
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_values_are_those_given_and_defaults_and_no_others() -> None:
    given = {"count": 8, "mood": None, "other": 1}
    assert values_of([COUNT, SHARE, MOOD], given) == {"count": 8, "share": 0.5, "mood": "calm"}
    assert values_of([COUNT, SHARE], {"count": 1, "share": 0}) == {"count": 1, "share": 0}


def test_a_number_for_each_input_is_read_and_spread() -> None:
    assert (EACH.read("0.5"), EACH.read("0.5, .25")) == (0.5, (0.5, 0.25))
    assert (EACH.spread(0.5, 3), EACH.spread([0.5, 0.25], 2)) == ((0.5,) * 3, (0.5, 0.25))
    assert values_of([EACH], {"density": (0.5, 1)}) == {"density": (0.5, 1)}
    for text in ("", "0.5,", "a", "0.5;0.3", "0", "nan"):
        with pytest.raises(UsageError, match="--density is"):
            EACH.read(text)
    with pytest.raises(UsageError, match="2 values of --density are given for 3 inputs"):
        EACH.spread([0.5, 0.25], 3)


def test_what_a_reference_names_is_loaded() -> None:
    assert load("math:sqrt") is math.sqrt
    with pytest.raises(AttributeError):
        load("math:nothing")
