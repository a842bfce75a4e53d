"""The refiner: equivariant in both networks' units, blind to their exchange, and useful from the start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.assignment import assign
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.refiner import Refiner, RefinerConfig
from deepalign_cli.network.strengths import strengths
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.network.builders import Stack, acted, aligner, compared, largest_gap, network
from tests.symmetry.builders import CASES, seeded

CONFIG = RefinerConfig(rounds=2, hidden=4, iterations=6)


def refiner() -> Refiner:
    """A refiner whose every parameter is generic."""
    torch.manual_seed(0)
    made = Refiner(CONFIG).double().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64))
    return made


def refined(symmetry: Symmetry, a: Stack, b: Stack, similar: dict[str, Tensor]) -> dict[str, Tensor]:
    graph = Graph(symmetry)
    logits = {g: 10 * s.unsqueeze(0) for g, s in similar.items()}
    found = refiner()(graph, strengths(graph, a), strengths(graph, b), logits)
    return {g: x[0] for g, x in found.items()}


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


@pytest.mark.parametrize("name", CASES)
def test_a_planted_permutation_survives_a_fresh_refiner(name: str) -> None:
    symmetry, a = network(name)
    g = symmetry.random(seeded(3))
    b = acted(symmetry, g, a)
    graph = Graph(symmetry)
    similar = compared(aligner(), symmetry, a, b)
    logits = {k: 10 * s.unsqueeze(0) for k, s in similar.items()}
    fresh = Refiner(CONFIG).double().requires_grad_(False)
    found = fresh(graph, strengths(graph, a), strengths(graph, b), logits)
    assert all(torch.equal(assign(found[k][0]), g.inverse().perm[k]) for k in similar)


def test_neighbours_mend_a_group_that_was_mistaken() -> None:
    # The middle group's prediction hesitates; the weights that tie it to its sure neighbours tell more.
    symmetry, a = network("mlp")
    groups = list(symmetry.sizes)
    graph = Graph(symmetry)
    logits = {k: 20 * torch.eye(n, dtype=torch.float64).unsqueeze(0) for k, n in symmetry.sizes.items()}
    n = symmetry.sizes[groups[1]]
    noise = torch.randn(1, n, n, generator=seeded(0), dtype=torch.float64)
    logits[groups[1]] = noise + 2 * torch.eye(n, dtype=torch.float64)
    read = strengths(graph, a)
    found = Refiner(CONFIG).double().requires_grad_(False)(graph, read, read, logits)
    right = torch.arange(n)
    assert (assign(logits[groups[1]][0]) == right).sum() < n
    assert torch.equal(assign(found[groups[1]][0]), right)


def test_an_aligner_without_one_says_so() -> None:
    symmetry, a = network("mlp")
    with pytest.raises(ValueError, match="no refiner"):
        DeepAlign(aligner().encoder).refine(Graph(symmetry), a, a, {})
