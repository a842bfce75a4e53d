"""Wide networks are read in bfloat16 where that is fast, and say the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.sketched import Sketched, compared
from deepalign_cli.network import halved
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import load_pretrained
from deepalign_cli.network.sketches import Sketches
from deepalign_cli.network.strengths import strengths
from tests.network.builders import bound
from tests.symmetry.builders import seeded

WIDTH = 400


@pytest.fixture(scope="module")
def shipped() -> DeepAlign:
    return load_pretrained("universal-v1")


def pair(dtype: torch.dtype = torch.float32) -> tuple[Graph, dict[str, Tensor], dict[str, Tensor]]:
    """Two wide networks, one the other with noise, so that their units are neither equal nor unlike."""
    shapes = {"one.weight": (WIDTH, 30), "two.weight": (WIDTH, WIDTH), "out.weight": (10, WIDTH)}
    symmetry = bound(shapes, one__weight="a 30", two__weight="b a", out__weight="10 b")
    rng = seeded(3)
    a = {n: torch.randn(shape, generator=rng).to(dtype) / shape[1] ** 0.5 for n, shape in shapes.items()}
    b = {n: w + 0.7 * w.std() * torch.randn(w.shape, generator=rng).to(dtype) for n, w in a.items()}
    return Graph(symmetry), a, b


def read_pair(network: DeepAlign) -> tuple[Sketched, Sketched]:
    graph, a, b = pair()
    sketches = Sketches([1, 2], orthogonal=True)
    own, other = (Sketched(network, graph, weights, sketches) for weights in (a, b))
    for stop in (1, 2):
        own.read(stop)
        other.read(stop)
    return own, other


def read(network: DeepAlign) -> tuple[Sketched, dict[str, Tensor]]:
    own, other = read_pair(network)
    return own, dict(compared(own, other))


def test_it_says_what_full_precision_says(shipped: DeepAlign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halved, "multiplies_halves", lambda: False)
    full, expected = read(shipped)
    monkeypatch.setattr(halved, "multiplies_halves", lambda: True)
    half, found = read(shipped)
    assert {x.dtype for block in full.blocks for x in block.values()} == {torch.float32}
    assert {x.dtype for block in half.blocks for x in block.values()} == {torch.bfloat16}
    for group, similar in expected.items():
        assert found[group].dtype is torch.float32
        assert not torch.equal(found[group], similar)
        assert float((found[group] - similar).abs().max()) < 0.01
        assert (found[group].argmax(1) == similar.argmax(1)).float().mean() > 0.97


def test_what_is_narrow_or_double_or_learned_is_read_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halved, "multiplies_halves", lambda: True)
    graph, a, _ = pair()

    def in_halves(graph: Graph, weights: dict[str, Tensor]) -> bool:
        return halved.reads_in_halves(graph, strengths(graph, {n: w[None] for n, w in weights.items()}))

    with torch.no_grad():
        assert in_halves(graph, a)
        assert not in_halves(graph, {n: w.double() for n, w in a.items()})
        symmetry = bound({"one.weight": (9, 30)}, one__weight="a 30")
        assert not in_halves(Graph(symmetry), {"one.weight": a["one.weight"][:9]})
    assert not in_halves(graph, a)


def test_the_network_itself_stays_as_it_is(shipped: DeepAlign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halved, "multiplies_halves", lambda: True)
    read(shipped)
    assert {p.dtype for p in shipped.parameters()} == {torch.float32}


def test_a_refiner_says_in_halves_what_it_says_in_full(
    shipped: DeepAlign, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, *networks = pair()
    a, b = ({n: w[None] for n, w in weights.items()} for weights in networks)
    monkeypatch.setattr(halved, "multiplies_halves", lambda: False)
    similarity = dict(compared(*read_pair(shipped)))
    full, half = {}, {}
    for halves, made in ((False, full), (True, half)):
        monkeypatch.setattr(halved, "multiplies_halves", lambda halves=halves: halves)
        made.update(shipped.refine(graph, a, b, similarity))
    for group, logits in full.items():
        apart = (half[group] - logits).abs()
        assert 0 < float(apart.max()) < 0.1 * float(logits.std())
        assert half[group].dtype is torch.float32
        assert (half[group].argmax(1) == logits.argmax(1)).float().mean() > 0.99
