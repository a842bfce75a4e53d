"""How much of two networks is read before their units are compared."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.sketched import Sketched, compared, is_clear, with_responses
from deepalign_cli.network.encoders import make_encoder
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.similarity import similarities, spread
from deepalign_cli.network.sketches import Sketches
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.aligners.builders import planted, trained
from tests.symmetry.builders import case, seeded

SEEDS = [1, 2, 3, 4]


@pytest.fixture
def network() -> DeepAlign:
    sizes = {"channels": 16, "hidden": 32, "sketch": 16, "sweeps": 2, "out": 32}
    return DeepAlign(make_encoder(sizes)).requires_grad_(False).eval()


def test_reading_on_is_reading_at_once(network: DeepAlign) -> None:
    symmetry, a, b = trained()
    graph, sketches = Graph(symmetry), Sketches(SEEDS)
    own, other = (Sketched(network, graph, w, sketches) for w in (a, b))
    for stop in (1, 1, 4):
        for reading in (own, other):
            reading.read(stop)
    assert (own.count, len(own.blocks)) == (4, 2)

    stacks = ({n: w.unsqueeze(0) for n, w in x.items()} for x in (a, b))
    expected = similarities(*(network.encode(graph, stack, SEEDS) for stack in stacks))
    for group, similar in compared(own, other).items():
        assert torch.allclose(similar, expected[group].mean(0), atol=1e-5)


def test_what_both_have_read_is_compared(network: DeepAlign) -> None:
    symmetry, a, b = trained()
    graph, sketches = Graph(symmetry), Sketches(SEEDS)
    own, other, brief = (Sketched(network, graph, w, sketches) for w in (a, b, a))
    for reading, stops in ((own, (1, 4)), (other, (1,)), (brief, (1,))):
        for stop in stops:
            reading.read(stop)
    expected = compared(brief, other)
    assert all(torch.equal(similar, expected[group]) for group, similar in compared(own, other).items())


def test_one_sketch_shows_a_copy_and_no_number_two_trainings(network: DeepAlign) -> None:
    symmetry, a, b, _ = planted("named_mlp")
    assert LearnedAligner(network, refine="none")(symmetry, a, b, rng=seeded(0)).details["sketches"] == 1
    symmetry, a, b = trained()
    for sketches in (1, 5):
        found = LearnedAligner(network, sketches=sketches, refine="none")(symmetry, a, b, rng=seeded(0))
        assert found.details["sketches"] == sketches


def test_the_default_reads_nothing_of_a_copy(network: DeepAlign) -> None:
    symmetry, a, b, _ = planted("named_mlp")
    assert LearnedAligner(network)(symmetry, a, b, rng=seeded(0)).details["sketches"] == 0


def test_it_is_clear_when_nearly_all_units_have_found_each_other() -> None:
    similar = torch.eye(100)[torch.randperm(100, generator=seeded(1))]
    assert is_clear({"g": similar})
    assert is_clear({"g": similar + 0.1, "h": torch.ones(1, 1)})
    assert is_clear({})
    lost = similar.clone()
    lost[:2] = lost[2]
    assert not is_clear({"g": similar, "h": lost})
    assert not is_clear({"h": lost.T})


def convolutional(name: str = "plain_cnn") -> tuple[Symmetry, dict[str, Tensor], dict[str, Tensor]]:
    symmetry, a = case(name)
    return symmetry, a, case(name, seed=1)[1]


def test_responses_count_beside_the_prediction_where_there_are_convolutions(network: DeepAlign) -> None:
    symmetry, a, b = convolutional()
    own, other = (Sketched(network, Graph(symmetry), w, Sketches(SEEDS)) for w in (a, b))
    own.read(4)
    other.read(4)
    alone = compared(own, other)
    both = with_responses(own, other, alone)
    assert own.responses is not None
    assert other.responses is not None
    for group, similar in both.items():
        parts = [alone[group]]
        for x, y in (
            (own.responses.onward, other.responses.onward),
            (own.responses.back, other.responses.back),
        ):
            parts.append(x[group] @ y[group].T)
        expected = torch.stack([spread(part) for part in parts]).sum(0)
        assert torch.allclose(spread(similar), spread(expected), atol=1e-5)
        assert float(similar.std(correction=0)) == pytest.approx(
            float(alone[group].std(correction=0)), rel=1e-3
        )


def test_a_prediction_with_responses_moves_with_the_units(network: DeepAlign) -> None:
    symmetry, a, b = convolutional("resnet_basic")
    a, b = ({n: w.double() if w.is_floating_point() else w for n, w in x.items()} for x in (a, b))
    g, h = symmetry.random(seeded(5)), symmetry.random(seeded(6))
    found, moved = (
        LearnedAligner(network).similarity(symmetry, *pair, seeded(0))
        for pair in ((a, b), (symmetry.apply(g, a), symmetry.apply(h, b)))
    )
    for group in symmetry.sizes:
        expected = found[group][g.perm[group]][:, h.perm[group]]
        assert torch.allclose(moved[group], expected, atol=1e-6)


def test_without_convolutions_the_prediction_is_alone(network: DeepAlign) -> None:
    symmetry, a, b = trained()
    own, other = (Sketched(network, Graph(symmetry), w, Sketches(SEEDS)) for w in (a, b))
    own.read(1)
    other.read(1)
    alone = compared(own, other)
    assert own.responses is None
    assert with_responses(own, other, alone) is alone


def test_where_one_sketch_is_clear_nothing_is_run(
    network: DeepAlign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise AssertionError

    symmetry, a, b, _ = planted("plain_cnn")
    monkeypatch.setattr("deepalign_cli.aligners.sketched.responses", run)
    LearnedAligner(network, refine="none")(symmetry, a, b, rng=seeded(0))
    with pytest.raises(AssertionError):
        LearnedAligner(network, refine="none")(*convolutional(), rng=seeded(0))
