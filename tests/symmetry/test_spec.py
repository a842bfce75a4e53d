from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deepalign_cli.errors import SpecError, UsageError
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.kinds import CENTRED, SCALE, SIGN, SIGNED_SCALE
from deepalign_cli.symmetry.spec import Activation, Spec, format_spec, parse_spec, plain, read_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import CASES, HEADS, family_spec

CHAIN = """
[axes]
"0.weight" = "+h 5"
"2.weight" = "3 -h"
"""


def same(one: Spec, other: Spec) -> bool:
    return one == other and list(one.axes) == list(other.axes)


@pytest.mark.parametrize("name", CASES)
def test_every_familys_spec_survives_toml(name: str) -> None:
    bare = family_spec(CASES[name]()[0], HEADS.get(name))
    for activation in (None, Activation.RELU, Activation.TANH):  # one of each kind
        spec = bare.with_activation(activation)
        assert same(parse_spec(format_spec(spec)), spec)
        assert same(parse_spec(format_spec(plain(spec))), plain(spec))


def test_odd_names_and_all_tables_survive_toml() -> None:
    text = CHAIN.replace("0.weight", r"a\"b\\c\u007f ü\n=#")
    spec = parse_spec(f'format = 1\npooled = ["h"]\n{text}[kinds]\nh = "sign"\n[sizes]\nh = 4\n')
    assert 'a"b\\c\x7f ü\n=#' in spec.axes
    assert (spec.kinds, spec.sizes, spec.pooled) == ({"h": SIGN}, {"h": 4}, {"h"})
    assert same(parse_spec(format_spec(spec)), spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axes = [", "is not TOML"),
        ("[" * 20_000, "is not TOML"),
        ("[axis]", "unknown entry 'axis'"),
        ("format = 2", "format 2; this version reads 1"),
        ("basis = 'guessed'", "basis of the spec 'x' is 'guessed'"),
        ("basis = 3", "basis of the spec 'x' is 3"),
        (CHAIN.replace("+h", "~h").replace("-h", "~h") + "[kinds]\nh = 'scale'", "has a \\+ or - mark"),
        (
            CHAIN.replace("+h", "~h").replace("-h", "~h") + "[kinds]\nh = 'signed scale'",
            "has a \\+ or - mark",
        ),
        ("basis = 'traced and checked'" + CHAIN + "[kinds]\nh = 'sign'", "kind sign but .* has a ~ mark"),
        ("basis = 'traced and checked'" + CHAIN + "[kinds]\nh = 'signed scale'", "has a ~ mark"),
        ("axes = 3", "'axes' in the spec 'x' is not a table"),
        ("[axes]\nw = 3", "the axes of 'w' .* are not a string"),
        ("[axes]\nfc.weight = '3 h'", "the axes of 'fc' .* are not a string"),
        (CHAIN + "[kinds]\nh = 'unitary'", "kind of 'h' .* is 'unitary'"),
        (CHAIN + "[kinds]\nh = ['sign']", "kind of 'h'"),
        (CHAIN + "[kinds]\nk = 'sign'", "carries the group 'k'"),
        (CHAIN + "[sizes]\nk = 3", "carries the group 'k'"),
        ("pooled = ['k']\n" + CHAIN, "carries the group 'k'"),
        ("pooled = 'h'\n" + CHAIN, "'pooled' .* is not a list"),
        *(
            (CHAIN + f"[sizes]\nh = {n}", "size of 'h' .* positive")
            for n in ("0", "-1", "4.0", "true", "'4'")
        ),
        *(
            (
                CHAIN.replace("+", "").replace("-h", "h") + f"[kinds]\nh = '{kind}'",
                rf"kind {kind} but no axis",
            )
            for kind in ("sign", "scale", "signed scale")
        ),
    ],
)
def test_what_is_not_a_spec_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        parse_spec(text, source="x")
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_a_spec_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(CHAIN)
    assert read_spec(path).groups() == ("h",)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"a\.toml' cannot be read"):
        read_spec(path)
    with pytest.raises(SpecError, match="cannot be read"):
        read_spec(tmp_path)
    with pytest.raises(UsageError, match="no spec file"):
        read_spec(tmp_path / "b.toml")


def test_the_activation_says_what_kind_the_marked_groups_have() -> None:
    spec = parse_spec('pooled = ["c"]\n[axes]\na = "+h +c s"\nb = "-h -c s +k"\n[kinds]\nk = "sign"\n')
    assert spec.with_activation(None) is spec
    assert spec.with_activation(Activation.GELU) is spec
    for activation in (Activation.RELU, Activation.LEAKY_RELU):
        assert spec.with_activation(activation).kinds == {"h": SCALE, "c": SCALE, "k": SIGN}
    for activation in (Activation.TANH, Activation.SIN):
        signed = spec.with_activation(activation)
        assert signed.kinds == {"h": SIGN, "k": SIGN}  # a max-pool lets no sign pass
        assert "max-pool" in signed.stays[-1]


MARKS = 'pooled = ["c"]\n[axes]\na = "~+h +c s ~n"\nb = "-h -c s ~n -d +d"\n'


def test_marks_say_which_kinds_a_group_may_have() -> None:
    given, traced = parse_spec(MARKS), parse_spec('basis = "traced and checked"\n' + MARKS)
    for spec in (given, traced):
        assert spec.allowed("scale") == spec.allowed(SCALE) == {"h", "c", "d"}
        assert spec.allowed("permutation") == set(spec.groups())
    assert given.allowed("sign") == {"h", "n", "c", "d"}
    assert traced.allowed("sign") == {"h", "n"}
    assert given.allowed("signed scale") == {"h", "c", "d"}
    assert traced.allowed("signed scale") == {"h"}


def test_kinds_are_set_where_the_marks_allow_them() -> None:
    given, traced = parse_spec(MARKS), parse_spec('basis = "traced and checked"\n' + MARKS)
    assert traced.with_kinds() is traced
    assert traced.with_kinds(scale=True).kinds == {"h": SCALE, "c": SCALE, "d": SCALE}
    assert traced.with_kinds(sign=True).kinds == {"h": SIGN, "n": SIGN}
    both = traced.with_kinds(scale=True, sign=True)
    assert both.kinds == {"h": SIGNED_SCALE, "c": SCALE, "d": SCALE, "n": SIGN}
    assert not both.assumptions
    pooled = given.with_kinds(scale=True, sign=True)  # a max-pool lets scales pass
    assert pooled.kinds == {"h": SIGNED_SCALE, "c": SCALE, "d": SIGNED_SCALE, "n": SIGN}
    assert "max-pool" in pooled.stays[-1]
    assert given.with_activation(Activation.RELU, {SIGN}).kinds == pooled.kinds
    assert replace(traced, kinds={"h": SIGN}).with_kinds(scale=True).kinds["h"] == SIGN  # set already


def test_an_activation_that_a_traced_network_does_not_have_is_refused() -> None:
    spec = parse_spec('basis = "traced and checked"\n' + CHAIN)
    assert spec.with_activation(Activation.RELU).kinds == {"h": SCALE}
    assert spec.with_activation(Activation.GELU) is spec
    with pytest.raises(SpecError, match="no group of the traced network has a sign"):
        spec.with_activation(Activation.TANH)


@pytest.mark.parametrize("basis", Basis)
def test_the_basis_survives_toml(basis: Basis) -> None:
    spec = replace(parse_spec(MARKS), basis=basis, assumptions=("one",), source="x")
    assert Spec.parse(str(spec)) == spec
    assert Spec.parse(str(spec)).basis is basis
    assert ("basis =" in str(spec)) is (basis is not Basis.GIVEN)


def test_marks_that_no_kind_uses_are_not_shown() -> None:
    spec = plain(parse_spec('[axes]\na = "+h +k"\n[kinds]\nk = "scale"\n'))
    assert '"h +k"' in format_spec(spec)


GAINS = """
[kinds]
s = "centred orthogonal"
[gains]
"norm.weight" = ["norm.bias", "a.read"]
"lone.weight" = ["b.read"]
[axes]
"write" = "s +k"
"norm.bias" = "s"
"a.read" = "-k s"
"b.read" = "2 s"
"""


def test_gains_and_kinds_that_mix_survive_toml() -> None:
    spec = parse_spec(GAINS)
    assert spec.kinds == {"s": CENTRED}
    assert spec.mixing == {"s"}
    assert spec.gains == {"norm.weight": ("norm.bias", "a.read"), "lone.weight": ("b.read",)}
    assert same(parse_spec(format_spec(spec)), spec)
    assert spec != replace(spec, gains={})
    odd = spec.renamed(lambda name: f'{name} "\\\x7f=]')
    assert same(parse_spec(format_spec(odd)), odd)
    assert odd.gains.keys() == {'norm.weight "\\\x7f=]', 'lone.weight "\\\x7f=]'}


def test_gains_to_which_one_is_added_survive_toml_and_go_with_theirs() -> None:
    spec = parse_spec(f'plus_one = ["lone.weight"]\n{GAINS}')
    assert spec.plus_one == {"lone.weight"}
    assert same(parse_spec(format_spec(spec)), spec)
    assert spec != parse_spec(GAINS)
    odd = spec.renamed(lambda name: f'{name} "\\\x7f=]')
    assert same(parse_spec(format_spec(odd)), odd)
    assert spec.holding({"s": 5}).plus_one == frozenset()
    with pytest.raises(SpecError, match=r"'write' in 'plus_one' of the spec 'spec' is not in \[gains\]"):
        parse_spec(f'plus_one = ["write"]\n{GAINS}')
    with pytest.raises(SpecError, match="'plus_one' in the spec 'spec' is not a list of names"):
        parse_spec(f"plus_one = true\n{GAINS}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"norm.weight" = "norm.bias"', "'norm.weight' of 'gains' in the spec 'spec' is not a list of names"),
        ('"norm.weight" = [1]', "'norm.weight' of 'gains' in the spec 'spec' is not a list of names"),
    ],
)
def test_gains_that_are_no_lists_of_names_are_refused(line: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec(f'[gains]\n{line}\n[axes]\n"norm.bias" = "s"')
    with pytest.raises(SpecError, match="'gains' in the spec 'spec' is not a table"):
        parse_spec('gains = ["norm.bias"]\n[axes]\n"norm.bias" = "s"')


def test_gains_go_where_what_turns_is_held() -> None:
    spec = parse_spec(GAINS)
    held = spec.holding({"s": 5})
    assert (held.kinds, held.gains, held.groups()) == ({}, {}, ("k",))
    others = spec.holding({"k": 3})
    assert (others.kinds, others.gains) == (spec.kinds, spec.gains)


def test_gains_go_with_a_stream_though_what_undoes_them_turns_in_heads() -> None:
    spec = parse_spec(
        '[kinds]\ns = "orthogonal"\nd = "orthogonal"\n[gains]\nn = ["q"]\n[axes]\ne = "s"\nq = "h*d s"'
    )
    assert spec.holding({"s": 5}).gains == {}
    assert spec.holding({"d": 5}).gains == spec.gains


def test_a_gain_is_not_forgotten_where_some_of_what_undoes_it_is_left_out() -> None:
    spec = parse_spec(GAINS)
    left = spec.with_axes({n: one for n, one in spec.axes.items() if n != "a.read"})
    assert left.gains == spec.gains
    with pytest.raises(SpecError, match=r"no axis of 'a.read' carries the stream"):
        Symmetry(left, {"write": (4, 3), "norm.bias": (4,), "b.read": (2, 4), "norm.weight": (4,)})


def test_activations_say_nothing_of_groups_that_mix() -> None:
    spec = parse_spec(GAINS)
    assert spec.with_kinds(scale=True, sign=True).kinds["s"] is CENTRED
    assert spec.with_activation(Activation.RELU).kinds == {"s": CENTRED, "k": SCALE}
    assert spec.allowed("orthogonal") == {"s", "k"}
