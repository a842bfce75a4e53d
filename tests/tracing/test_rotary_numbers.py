"""Numbers of queries and keys as groups, on specs of one attention; the rest is left as it is."""

from __future__ import annotations

import pytest

from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.kinds import HALF_TURNS, NEIGHBOURS, ROTARY
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.tracing.rotary_numbers import is_heads, with_rotary_groups

Lines = dict[str, str]

# Axes as a walk leaves them, and as they are with the groups. Where a walk leaves none, these are numbers.
CASES: dict[str, tuple[Lines, Lines]] = {
    "two matrices": (
        {"a.q.weight": "a.heads*8 s", "a.k.weight": "a.heads*8 s", "a.k.bias": "a.heads*8"},
        {"a.q.weight": "a.heads*a.qk s", "a.k.weight": "a.heads*a.qk s", "a.k.bias": "a.heads*a.qk"},
    ),
    "fused by head": ({"a.w.weight": "a.heads*(16|a.vo) s"}, {"a.w.weight": "a.heads*(a.qk|a.qk|a.vo) s"}),
    "fused, one part rotary": (
        {"a.w.weight": "a.heads*(4|a.qk|4|a.qk|a.vo) s"},
        {"a.w.weight": "a.heads*(a.rotary|a.qk|a.rotary|a.qk|a.vo) s"},
    ),
    "two matrices, one part rotary": (
        {"a.q.weight": "a.heads*(4|a.qk) s", "a.k.weight": "a.heads*(4|a.qk) s"},
        {"a.q.weight": "a.heads*(a.rotary|a.qk) s", "a.k.weight": "a.heads*(a.rotary|a.qk) s"},
    ),
    "keys of all heads": (
        {"a.q.weight": "a.heads*8 s", "a.k.weight": "8 s", "a.k.bias": "8"},
        {"a.q.weight": "a.heads*a.qk s", "a.k.weight": "a.qk s", "a.k.bias": "a.qk"},
    ),
    "one head": (
        {"att.q.weight": "8 s", "att.k.weight": "8 s", "att.v.weight": "v s", "att.q.bias": "8"},
        {"att.q.weight": "att.qk s", "att.k.weight": "att.qk s", "att.v.weight": "v s",
         "att.q.bias": "att.qk"},
    ),
    "one head, fused": ({"att.w.weight": "16|v s"}, {"att.w.weight": "att.qk|att.qk|v s"}),
    "no attention": ({"mlp.q.weight": "8 s", "mlp.k.weight": "8 s"},
                     {"mlp.q.weight": "8 s", "mlp.k.weight": "8 s"}),
    "odd": ({"a.q.weight": "a.heads*3 s", "a.k.weight": "a.heads*3 s"},
            {"a.q.weight": "a.heads*3 s", "a.k.weight": "a.heads*3 s"}),
    "one number alone": ({"a.q.weight": "a.heads*8 s"}, {"a.q.weight": "a.heads*8 s"}),
}  # fmt: skip


def shapes_of(lines: Lines) -> dict[str, tuple[int, ...]]:
    """Shapes that say which lines are vectors, and how long plain numbers are."""
    words = {name: line.split() for name, line in lines.items()}
    return {name: tuple(int(word) if word.isdigit() else 99 for word in one) for name, one in words.items()}


def renamed(lines: Lines, barred: dict[str, object] | None = None) -> tuple[Lines, dict[str, object]]:
    text = "[axes]\n" + "\n".join(f'"{n}" = "{t}"' for n, t in lines.items() if not t.isdigit())
    spec = with_rotary_groups(parse_spec(text), shapes_of(lines), barred or {})  # type: ignore[arg-type]
    found = {name: format_axes(axes) for name, axes in spec.axes.items()}
    return {name: found.get(name, text) for name, text in lines.items()}, dict(spec.kinds)


@pytest.mark.parametrize("case", CASES)
def test_numbers_become_groups(case: str) -> None:
    lines, wanted = CASES[case]
    found, kinds = renamed(lines)
    assert found == wanted
    assert {*kinds.values()} == ({ROTARY} if found != lines else set())


def test_behind_a_norm_they_make_half_turns_and_its_gain_stays() -> None:
    lines = {**CASES["two matrices"][0], "a.q_norm.weight": "8"}
    found, kinds = renamed(lines)
    assert kinds == {"a.qk": HALF_TURNS}
    assert found["a.q_norm.weight"] == "8"


def test_what_is_barred_stays_or_is_narrower() -> None:
    lines = CASES["two matrices"][0]
    assert renamed(lines, {"a.qk": NEIGHBOURS})[1] == {"a.qk": NEIGHBOURS}
    assert renamed(lines, {"a.qk": None}) == (lines, {})


def test_which_groups_are_heads() -> None:
    assert all(map(is_heads, ("heads", "a.heads", "a.b.heads.2")))
    assert not any(map(is_heads, ("a.heads.qk", "overheads", "a.queries", "heads.2.3")))
