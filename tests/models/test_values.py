from __future__ import annotations

import pytest

from deepalign_cli.errors import SpecError, UsageError
from deepalign_cli.models.values import Options, for_each, one_of, positive, whole, wholes

KNOWN = {"activation": "relu; one of two", "size": "28; pixels a side"}


@pytest.mark.parametrize("parse", [whole, positive, wholes])
@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf", "1e400", "1;2"])
def test_what_is_no_number(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_numbers() -> None:
    assert (whole("3"), whole("0", 0), positive("1e-5"), wholes("1,2"), wholes("none")) == (
        3, 0, 1e-5, (1, 2), (),
    )  # fmt: skip
    assert for_each((2,), 3) == (2, 2, 2)
    assert for_each((1, 2), 2) == (1, 2)
    with pytest.raises(ValueError, match="3 layers"):
        for_each((1, 2), 3)


def test_an_unknown_option_is_refused_with_those_known() -> None:
    with pytest.raises(UsageError, match="an MLP has no option 'sise'") as caught:
        Options("an MLP", {"sise": "3"}, KNOWN)
    assert caught.value.hint == "known: activation, size."


def test_missing_options_are_listed_with_what_to_give() -> None:
    options = Options("an MLP", {}, KNOWN)
    with pytest.raises(SpecError, match="of an MLP do not tell its activation, size") as caught:
        options.needs("activation", "size")
    assert "--design activation=relu --design size=28 (" in caught.value.hint
    with pytest.raises(SpecError) as caught:
        options.needs("activation")
    assert "or --activation relu" in caught.value.hint
    Options("an MLP", {"size": "3"}, KNOWN).needs("size")


def test_a_value_that_is_not_usable_is_named() -> None:
    options = Options("an MLP", {"size": "0", "activation": "rulu"}, KNOWN)
    with pytest.raises(UsageError, match="size=0 does not work: it must be an integer from 1"):
        options.read("size", whole, 3)
    with pytest.raises(UsageError, match="activation=rulu does not work: it must be one of relu, tanh"):
        options.read("activation", one_of("relu", "tanh"), "relu")
    assert Options("an MLP", {}, KNOWN).read("size", whole, 3) == 3
