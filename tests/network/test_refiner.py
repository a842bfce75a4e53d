"""The refiner: equivariant in both networks' units, blind to their exchange, and useful from the start."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from deepalign_cli.assignment import assign, log_sinkhorn
from deepalign_cli.network.graph import Edge, Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.refiner import Refiner, RefinerConfig
from deepalign_cli.network.strengths import Strengths, strengths
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.network.builders import Stack, acted, aligner, bound, compared, largest_gap, network
from tests.symmetry.builders import CASES, seeded

CONFIG = RefinerConfig(rounds=3, iterations=6)


def refiner() -> Refiner:
    """A refiner whose every parameter is generic."""
    torch.manual_seed(0)
    made = Refiner(CONFIG).double().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64))
    return made


def refined(symmetry: Symmetry, a: Stack, b: Stack, similar: dict[str, Tensor]) -> dict[str, Tensor]:
    graph = Graph(symmetry)
    logits = {g: 10 * s for g, s in similar.items()}
    return dict(refiner()(graph, strengths(graph, a), strengths(graph, b), logits))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "siren", "vgg_bn", "cifar_resnet", "transformer_prenorm"])
def test_it_moves_with_the_units_and_turns_with_the_networks(name: str) -> None:
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    similar = compared(aligner(), symmetry, a, b)
    before = refined(symmetry, a, b, similar)
    g, h = symmetry.random(seeded(1)), symmetry.random(seeded(2))
    moved = {k: s[g.perm[k]][:, h.perm[k]] for k, s in similar.items()}
    after = refined(symmetry, acted(symmetry, g, a), acted(symmetry, h, b), moved)
    assert largest_gap(after, {k: x[g.perm[k]][:, h.perm[k]] for k, x in before.items()}) < 1e-9
    turned = refined(symmetry, b, a, {k: s.T for k, s in similar.items()})
    assert largest_gap(turned, {k: x.T for k, x in before.items()}) < 1e-9
    assert largest_gap(before, {k: 10 * s for k, s in similar.items()}) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_planted_permutation_survives_a_fresh_refiner(name: str) -> None:
    symmetry, a = network(name)
    g = symmetry.random(seeded(3))
    b = acted(symmetry, g, a)
    graph = Graph(symmetry)
    similar = compared(aligner(), symmetry, a, b)
    logits = {k: 10 * s for k, s in similar.items()}
    found = dict(Refiner(CONFIG)(graph, strengths(graph, a), strengths(graph, b), logits))
    assert all(torch.equal(assign(found[k]), g.inverse().perm[k]) for k in similar)


def test_neighbours_mend_a_group_that_was_mistaken() -> None:
    # The middle group's prediction hesitates; the weights that tie it to its sure neighbours tell more.
    symmetry, a = network("mlp")
    groups = list(symmetry.sizes)
    graph = Graph(symmetry)
    logits = {k: 20 * torch.eye(n, dtype=torch.float64) for k, n in symmetry.sizes.items()}
    n = symmetry.sizes[groups[1]]
    noise = torch.randn(n, n, generator=seeded(0), dtype=torch.float64)
    logits[groups[1]] = noise + 2 * torch.eye(n, dtype=torch.float64)
    read = strengths(graph, a)
    found = dict(Refiner(CONFIG)(graph, read, read, logits))
    right = torch.arange(n)
    assert (assign(logits[groups[1]]) == right).sum() < n
    assert torch.equal(assign(found[groups[1]]), right)


def by_rounds(
    model: Refiner, graph: Graph, a: Stack, b: Stack, logits: dict[str, Tensor]
) -> dict[str, Tensor]:
    """What the refiner computes, one round after the other and from the definitions."""
    pair, present = (strengths(graph, a), strengths(graph, b)), logits
    for step in model.rounds:
        logs = {g: log_sinkhorn(x, model.config.iterations) for g, x in present.items()}
        refined = {}
        for g in logs:
            parts = [spread(logits[g]), spread(present[g])]
            for edges, end in ((graph.writers[g], "target"), (graph.readers[g], "source")):
                cosines = [cosine(graph, pair, edge, end, logs) for edge in edges]
                parts.append(spread(torch.stack(cosines).mean(0)) if edges else torch.zeros_like(logs[g]))
            parts.append(logs[g].clamp(min=-20) / 5)
            refined[g] = sum(w * x for w, x in zip(step.linear, parts, strict=True))
        present = refined
    return present


def cosine(
    graph: Graph, pair: tuple[Strengths, Strengths], edge: Edge, end: str, logs: dict[str, Tensor]
) -> Tensor:
    sides = []
    for read in pair:
        matrix = read.matrices[graph.edges.index(edge)]
        w = matrix.w[0]
        if end == "target":
            w = w * matrix.down[0].unsqueeze(2)
            w = w * read.drive[edge.source][0].unsqueeze(0) if edge.source else w
        else:
            w = ((w * matrix.pull[0].unsqueeze(2)).transpose(0, 1)) * matrix.up[0].unsqueeze(2)
        sides.append(w)
    other = edge.source if end == "target" else edge.target
    soft = logs[other].exp() if other else torch.eye(sides[0].shape[1], dtype=sides[0].dtype)
    return torch.einsum("imk,mn,jnk->ij", sides[0], soft, sides[1])


def spread(x: Tensor) -> Tensor:
    x = x - x.mean(0, keepdim=True) - x.mean(1, keepdim=True) + x.mean()
    return x / x.std(correction=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "plain_cnn_bn", "cifar_resnet", "transformer_prenorm"])
def test_group_by_group_is_round_by_round(name: str) -> None:
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    graph, model = Graph(symmetry), refiner()
    logits = {g: 10 * s for g, s in compared(aligner(), symmetry, a, b).items()}
    found = dict(model(graph, strengths(graph, a), strengths(graph, b), logits))
    assert largest_gap(found, by_rounds(model, graph, a, b, logits)) < 1e-8


@pytest.mark.parametrize("depth", [8, 16])
def test_in_a_chain_seven_matchings_are_alive_at_most(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {f"w{i}": f"{f'g{i}' if i < depth else 3} {f'g{i - 1}' if i else 3}" for i in range(depth + 1)}
    symmetry = bound({n: (5 if i < depth else 3, 5 if i else 3) for i, n in enumerate(axes)}, **axes)
    draw = seeded(0)
    a = {n: torch.randn(1, *shape, generator=draw) for n, shape in symmetry.shapes.items()}
    graph, alive, counts = Graph(symmetry), weakref.WeakSet[Tensor](), []

    def counted(logits: Tensor, iterations: int) -> Tensor:
        made = log_sinkhorn(logits, iterations)
        alive.add(made)
        counts.append(len(alive))
        return made

    monkeypatch.setattr("deepalign_cli.network.refiner.log_sinkhorn", counted)
    read = strengths(graph, a)
    logits = {g: torch.randn(n, n, generator=draw) for g, n in symmetry.sizes.items()}
    for _ in refiner().float()(graph, read, read, logits):
        pass
    assert len(counts) == 3 * depth  # each made once
    assert max(counts) == 7


def test_an_aligner_without_one_says_so() -> None:
    symmetry, a = network("mlp")
    with pytest.raises(ValueError, match="no refiner"):
        DeepAlign(aligner().encoder).refine(Graph(symmetry), a, a, {})
