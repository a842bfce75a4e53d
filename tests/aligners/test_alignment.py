from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from deepalign_cli.aligners.alignment import Aligner, Alignment, distance
from deepalign_cli.aligners.none import NoAlignment
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.errors import MismatchError
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import case, seeded


def test_every_method_is_an_aligner() -> None:
    assert isinstance(NoAlignment(), Aligner)
    assert isinstance(WeightMatching(), Aligner)


def test_the_distance_is_euclidean_over_trained_tensors_moved_or_not() -> None:
    symmetry, a = case("mlp_batchnorm")
    b = case("mlp_batchnorm", seed=1)[1]
    g = symmetry.random(seeded(0))
    for element, moved in ((None, b), (g, symmetry.apply(g, b))):
        entries = [
            float(x - y) ** 2
            for name in a
            if "running" not in name and "tracked" not in name
            for x, y in zip(a[name].flatten(), moved[name].flatten(), strict=True)
        ]
        assert distance(symmetry, a, b, element) == pytest.approx(math.sqrt(math.fsum(entries)), rel=1e-5)


def test_half_types_do_not_overflow_in_the_distance() -> None:
    symmetry = Symmetry(parse_spec('[axes]\nw = "k"'), {"w": (4,)})
    a, b = {"w": torch.full((4,), 6e4).half()}, {"w": torch.full((4,), -6e4).half()}
    assert distance(symmetry, a, b) == pytest.approx(2.4e5, rel=1e-3)
    assert distance(symmetry, a, {"w": b["w"].double()}) == pytest.approx(2.4e5, rel=1e-3)


def test_an_alignment_moves_tensors_one_by_one_and_counts_what_moves() -> None:
    symmetry, b = case("mlp_batchnorm")
    g = symmetry.random(seeded(0))
    alignment = Alignment(symmetry, g, "any", 0.0, 2.0, 1.0)
    expected = symmetry.apply(g, b)
    applied = alignment.apply(b)
    for name, w in expected.items():
        assert torch.equal(alignment.act(name, b[name]), w)
        assert torch.equal(applied[name], w)
    assert alignment.distances == (2.0, 1.0)
    assert alignment.groups == {k: {"size": n, "moved": g.moved(k)} for k, n in symmetry.sizes.items()}
    assert alignment.moved == sum(map(g.moved, symmetry.sizes)) > 0
    still = replace(alignment, element=symmetry.identity())
    assert still.moved == 0
    assert still.apply(b) is b


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"restarts": 10}, []),
        ({"restarts": 10, "notes": ["a"]}, ["a"]),
        (
            {"network": "n-v1", "sketches": 1, "kept": "none", "why": "as asked for", "notes": []},
            ["n-v1, 1 sketch; kept the prediction: as asked for"],
        ),
        (
            {"network": "n-v1", "sketches": 8, "kept": "weights", "why": "it is unsure", "notes": ["a", "b"]},
            ["n-v1, 8 sketches; kept weight matching from the prediction: it is unsure", "a", "b"],
        ),
        (
            {"network": "n-v1", "sketches": 0, "kept": "weights", "why": "a copy", "notes": []},
            ["n-v1; kept weight matching from the prediction: a copy"],
        ),
    ],
)
def test_remarks_tell_of_predictions(details: dict[str, object], expected: Sequence[str]) -> None:
    symmetry, a = case("named_mlp")
    alignment = NoAlignment()(symmetry, a, a, rng=seeded(0))
    assert [*replace(alignment, details=details).remarks] == expected


def test_notes_are_the_remarks_and_the_doubts_of_the_spec() -> None:
    symmetry, a = case("named_mlp")
    alignment = NoAlignment()(symmetry, a, a, rng=seeded(0))
    doubted = Symmetry(replace(symmetry.spec, assumptions=("a skip?",)), symmetry.shapes)
    told = replace(alignment, symmetry=doubted, details={"notes": ["no"], "unread": ["h1", "h2"]})
    unread = "no layer was seen to read h1, h2: matched by weights, not by activations"
    assert told.notes == ("no", unread, "assumption: a skip?")
    assert told.to_dict()["notes"] == list(told.notes)


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_apply_takes_names_as_they_are_stored(prefix: str) -> None:
    symmetry, a = case("named_mlp")
    g = symmetry.random(seeded(0))
    alignment = replace(NoAlignment()(symmetry, a, a, rng=seeded(0)), element=g)
    moved = alignment.apply({prefix + name: w for name, w in a.items()})
    assert list(moved) == [prefix + name for name in a]
    assert all(torch.equal(moved[prefix + name], w) for name, w in symmetry.apply(g, a).items())


def test_apply_refuses_another_network() -> None:
    symmetry, a = case("named_mlp")
    alignment = NoAlignment()(symmetry, a, a, rng=seeded(0))
    with pytest.raises(MismatchError, match=r"'fc2\.bias'"):
        alignment.apply({name: w for name, w in a.items() if name != "fc2.bias"})
