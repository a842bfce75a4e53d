"""How much of two networks is read before their units are compared."""

from __future__ import annotations

import pytest
import torch

from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.sketched import Sketched, compared, is_clear
from deepalign_cli.network.encoders import make_encoder
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.similarity import similarities
from deepalign_cli.network.sketches import Sketches
from tests.aligners.builders import planted, trained
from tests.symmetry.builders import seeded

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
