from __future__ import annotations

from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.meet import meet
from deepalign_cli.symmetry.spec import Spec, parse_spec

SHAPES = {"up": (4, 6), "down": (6, 4)}


def spec(up: str, down: str) -> Spec:
    return Spec.parse(f'[axes]\nup = "{up}"\ndown = "{down}"')


def met(a: Spec, b: Spec) -> dict[str, str]:
    both = meet(a, b, SHAPES)
    assert both is not None
    return {name: format_axes(axes) for name, axes in both.axes.items()}


def test_what_stays_in_one_stays() -> None:
    assert met(spec("k r", "r k"), spec("k 6", "6 k")) == {"up": "k 6", "down": "6 k"}


def test_a_tensor_that_one_does_not_name_stays() -> None:
    assert met(spec("k r", "r k"), Spec({})) == {}


def test_what_is_held_joins_the_numbers_beside_it() -> None:
    a = Spec.parse('[axes]\nup = "h*2 r"\ndown = "r 2*k"\n[sizes]\nh = 2\nk = 2')
    b = Spec.parse('[axes]\nup = "4 r"\ndown = "r 4"')
    assert met(a, b) == {"up": "4 r", "down": "r 4"}


def test_scales_and_signs_are_compared_by_themselves() -> None:
    assert met(spec("~+k r", "r ~-k"), spec("~k r", "r ~k")) == {"up": "~k r", "down": "r ~k"}
    assert met(spec("~+k r", "r ~-k"), spec("+k r", "r -k")) == {"up": "+k r", "down": "r -k"}


def test_one_group_of_another_name_is_held() -> None:
    assert met(spec("k r", "r k"), spec("j r", "r j")) == {"up": "4 r", "down": "r 4"}


def test_groups_that_one_ties_and_the_other_does_not() -> None:
    a = Spec.parse('[axes]\nx = "k 3"\ny = "k 3"')
    b = Spec.parse('[axes]\nx = "k 3"\ny = "j 3"')

    assert meet(a, b, {"x": (5, 3), "y": (5, 3)}) == Spec({})


TURNED = """
[kinds]
s = "orthogonal"
vo = "orthogonal"
[gains]
norm = ["v"]
[axes]
embed = "9 s"
v = "h*vo s"
o = "s h*vo"
"""
WIDTHS = {"embed": (9, 5), "norm": (5,), "v": (6, 5), "o": (5, 6)}


def test_what_turns_in_both_turns_and_what_does_not_stays() -> None:
    a = parse_spec(f"{TURNED}[sizes]\nh = 2\n")
    still = parse_spec(TURNED.replace('s = "orthogonal"\n', "").replace('[gains]\nnorm = ["v"]\n', "")
                       + 'norm = "s"\n[sizes]\nh = 2\n')  # fmt: skip
    more = parse_spec(f'plus_one = ["norm"]\n{TURNED}[sizes]\nh = 2\n')
    assert meet(a, a, WIDTHS) == a
    for other in (still, more):
        both = meet(a, other, WIDTHS)
        assert both is not None
        assert (both.groups(), both.mixing, both.gains) == (("h", "vo"), {"vo"}, {})
