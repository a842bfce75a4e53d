import pytest

from deepalign_cli.plots.series import panels_of
from deepalign_cli.plots.text import barrier_text, clean, elide, ends_of, number, told_apart
from tests.plots.builders import curve


def test_nothing_unprintable_is_left():
    assert clean("a\nb\x1b[31m\udc80\u202e") == r"a\nb\x1b[31m\udc80\u202e"
    assert clean("模型 a.pt") == "模型 a.pt"


@pytest.mark.parametrize("room", range(1, 12))
def test_what_is_too_long_keeps_both_ends_and_fits_as_well_as_can_be(room: int):
    short = elide("0123456789", lambda t: len(t) <= room)
    assert len(short) == min(room, 10)
    head, dots, tail = short.partition("…")
    assert ("0123456789".startswith(head) and "0123456789".endswith(tail)) if dots else short == "0123456789"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("m.npz, test, 9 examples", "m.npz, train, 9 examples"), ("test", "train")),
        (("m.npz, 9 examples", "m.npz, 5 examples"), ("9 examples", "5 examples")),
        (("a", "b"), ("a", "b")),
        (("a, x, 1", "a, x, 2", "a, y, 1"), ("a, x, 1", "a, x, 2", "a, y, 1")),  # no part alone tells
        (("a", "a, b"), ("a", "a, b")),
    ],
)
def test_names_of_data_are_told_apart_by_one_part(names: tuple[str, ...], told: tuple[str, ...]):
    assert told_apart(names) == told


def test_figures_are_short():
    written = [number(v) for v in (0.0, 0.12345, 2.2, 4000.0, 123456.0, 1e-5, -0.5)]
    assert written == ["0", "0.123", "2.2", "4000", "1.23e5", "1e\N{MINUS SIGN}5", "\N{MINUS SIGN}0.5"]


def test_barriers_of_one_pair_of_several_and_of_what_is_not_finite():
    def text(*curves):
        return barrier_text(panels_of(curves)[0].series[0])

    assert text(curve("none", 0.3)) == "barrier 0.3"
    assert text(curve("none", 0.3), curve("none", 0.4)) == "barrier 0.350 ± 0.071"
    assert text(curve("none", 0.3, bad=(12,))).endswith(
        "loss not finite at \N{GREEK SMALL LETTER ALPHA} = 0.5"
    )
    assert "at 3 of 25" in text(curve("none", 0.3, bad=(1, 2, 3)))


def test_ends_are_named_for_one_pair_only():
    assert ends_of(("a.pt", "b\n.pt")) == ("A: a.pt", r"aligned B: b\n.pt")
    assert ends_of(None) == ("A", "aligned B")
