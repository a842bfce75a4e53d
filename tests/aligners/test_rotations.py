"""The method: what is planted is found, with gains of its own, and what moves computes the same."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners import rotations
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.aligners.parents import Parents
from deepalign_cli.aligners.rotations import RotationMatching
from deepalign_cli.aligners.turned_paths import midpoint
from deepalign_cli.aligners.turning_descent import descend_turning
from deepalign_cli.errors import MismatchError
from deepalign_cli.progress import Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.turns import Turn
from tests.aligners.turning_pairs import SYMMETRY, drawn, turned_pair
from tests.symmetry.builders import seeded
from tests.turning_nets import PRENORM, PreNorm, Rms, shaken_, tokens

Turns = Mapping[str, Turn]


def aligned(a: dict[str, Tensor], b: dict[str, Tensor], symmetry: Symmetry = SYMMETRY) -> Alignment:
    return RotationMatching()(symmetry, a, b, rng=seeded(0))


def test_a_planted_element_is_found_through_other_gains() -> None:
    a, b, _ = turned_pair()
    found = aligned(a, b)
    assert found.distance_after < 1e-6 < 1 < found.distance_before
    assert found.details["start"] == "prediction"
    assert found.method == "rotations"
    moved = found.apply(b)
    assert all(torch.allclose(moved[name], w, atol=1e-7) for name, w in a.items())
    assert torch.equal(moved["n1"], a["n1"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_files_of_every_type_are_aligned_in_their_own(dtype: torch.dtype) -> None:
    a, b = ({n: w.to(dtype) for n, w in one.items()} for one in turned_pair()[:2])
    found = aligned(a, b)
    assert found.distance_after < 0.05 * found.distance_before
    assert {w.dtype for w in dict(found.apply(b)).values()} == {dtype}


def test_gains_are_exchanged_though_no_unit_moves() -> None:
    a = drawn(0)
    b = SYMMETRY.apply(SYMMETRY.without_gains(drawn(3)).inverse() @ SYMMETRY.without_gains(a), a)
    found = aligned(a, b)
    assert found.moved == 0
    assert not found.is_still
    moved = found.apply(b)
    assert all(torch.allclose(moved[name], w, atol=1e-9) for name, w in a.items())


def test_another_network_in_the_same_units_is_moved_with_its_own_gains() -> None:
    a, b, _ = turned_pair()
    found, other = aligned(a, b), drawn(7)
    moved = dict(found.apply(other))
    g = found.element
    wanted = SYMMETRY.apply(
        Element(g.perm, g.scale, g.turn), SYMMETRY.apply(SYMMETRY.without_gains(other), other)
    )
    bare = SYMMETRY.apply(SYMMETRY.without_gains(moved), moved)
    assert all(torch.allclose(bare[name], w, atol=1e-9) for name, w in wanted.items())
    with pytest.raises(MismatchError, match="'n1' is not among the tensors"):
        found.apply({name: w for name, w in other.items() if name != "n1"})
    prefixed = found.apply({f"module.{name}": w for name, w in other.items()})
    assert all(torch.equal(prefixed[f"module.{name}"], w) for name, w in moved.items())


def test_what_an_alignment_tells_holds_the_rotations() -> None:
    a, b, _ = turned_pair()
    told = aligned(a, b).to_dict()
    rotations = told["rotations"]
    assert isinstance(rotations, dict)
    assert {group: torch.tensor(q).shape for group, q in rotations.items()} == {
        "s": (1, 6, 6), "qk": (3, 4, 4), "vo": (3, 3, 3)
    }  # fmt: skip


def test_scales_and_turns_are_found_together() -> None:
    text = (
        '[kinds]\ns = "orthogonal"\nh = "scale"\n[axes]\ne = "9 s"\nup = "+h s"\nbias = "+h"\ndown = "s -h"'
    )
    shapes = {"e": (9, 4), "up": (7, 4), "bias": (7,), "down": (4, 7)}
    symmetry = Symmetry(parse_spec(text), shapes)
    a = {
        n: torch.randn(s, generator=seeded(i), dtype=torch.float64) for i, (n, s) in enumerate(shapes.items())
    }
    found = aligned(a, symmetry.apply(symmetry.random(seeded(5)), a), symmetry)
    assert found.distance_after < 1e-6


def test_where_nothing_may_turn_units_are_permuted_and_this_is_told() -> None:
    symmetry = Symmetry(parse_spec('[axes]\nup = "h 5"\ndown = "3 h"'), {"up": (6, 5), "down": (3, 6)})
    a = {"up": torch.randn(6, 5, generator=seeded(0)), "down": torch.randn(3, 6, generator=seeded(1))}
    found = aligned(a, symmetry.apply(symmetry.random(seeded(2)), a), symmetry)
    assert found.distance_after == 0.0
    assert "nothing may turn in these networks" in found.notes[0]
    assert not any("nothing may turn" in note for note in aligned(*turned_pair()[:2]).notes)


@pytest.mark.parametrize("side", [0, 1])
def test_a_gain_of_nothing_is_refused_on_either_side(side: int) -> None:
    pair = [drawn(0), drawn(1)]
    pair[side]["n2"][3] = 0.0
    with pytest.raises(MismatchError, match="the gain 'n2' is as small as 0"):
        aligned(*pair)


def test_progress_goes_up_and_not_beyond_the_end() -> None:
    told: list[float] = []
    a, b, _ = turned_pair()
    RotationMatching()(SYMMETRY, a, b, rng=seeded(0), progress=Progress(lambda share, _: told.append(share)))
    assert told == sorted(told)
    assert 0 < told[-1] <= 1


def test_on_data_streams_start_in_three_ways_and_the_nearest_midpoint_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = (dict(shaken_(PreNorm(Rms), seed).state_dict()) for seed in (0, 1))
    symmetry, module = Symmetry(parse_spec(PRENORM), {n: tuple(w.shape) for n, w in a.items()}), PreNorm(Rms)

    def run(weights: Weights, x: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(weights), (x,))

    asked: list[tuple[set[str], set[str]]] = []
    found: list[Element] = []

    def descend(
        problem: Gains, fixed: Turns, progress: Progress, begin: Turns
    ) -> tuple[Element, list[float]]:
        asked.append(({*fixed}, {*begin}))
        element, objective = descend_turning(problem, fixed, progress, begin)
        found.append(element)
        return element, objective

    monkeypatch.setattr(rotations, "descend_turning", descend)
    evidence = Evidence(run, lambda: [tokens(i, 20) for i in range(3)])
    method = RotationMatching(path_steps=0, evidence=evidence)
    told = method(symmetry, a, b, rng=seeded(0))
    assert asked == [(set(), {"stream"}), (set(), set()), ({"stream"}, set())]
    parents = Parents(run, a, b, evidence.batches)
    own, other = (symmetry.without_gains(w) for w in (a, b))
    losses = [parents.judge(midpoint(symmetry, a, b, own.inverse() @ g @ other)) for g in found]
    best = min(range(3), key=losses.__getitem__)
    assert told.details["start"] == ("prediction", "weights", "activations")[best]
    assert len({*losses}) == 3


def test_the_row_names_its_options() -> None:
    row = METHODS.find("rotations")
    assert row.turns
    assert [one.name for one in row.parameters] == ["path_steps"]
    assert row.values({}) == {"path_steps": 300}
    assert [one.name for one in METHODS.values() if one.turns] == ["rotations"]
