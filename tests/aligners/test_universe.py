"""Many networks aligned at once: planted ones are found, the objective rises, and the first stays put."""

import torch
from torch import Tensor

from deepalign_cli.aligners.universe import universal
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry

SPEC = Spec.parse('[axes]\n"0.weight" = "h 12"\n"0.bias" = "h"\n"1.weight" = "k h"\n"2.weight" = "5 k"')
SHAPES = {"0.weight": (16, 12), "0.bias": (16,), "1.weight": (14, 16), "2.weight": (5, 14)}


def drawn(rng: torch.Generator) -> dict[str, Tensor]:
    return {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in SHAPES.items()}


def test_noisy_copies_are_carried_onto_the_first() -> None:
    symmetry, rng = Symmetry(SPEC, SHAPES), torch.Generator().manual_seed(0)
    parent = drawn(rng)
    planted = [symmetry.random(rng) for _ in range(4)]
    networks = [
        {name: w + 0.3 * torch.randn(w.shape, generator=rng) for name, w in symmetry.apply(g, parent).items()}
        for g in planted
    ]
    start = [symmetry.identity()]
    start += [WeightMatching(1)(symmetry, networks[0], one, rng=rng).element for one in networks[1:]]
    elements, objective = universal(symmetry, networks, start, rng)
    assert objective == sorted(objective)
    for g, plant in zip(elements, planted, strict=True):
        whole = g @ plant @ planted[0].inverse()
        assert all(torch.equal(p, torch.arange(len(p))) for p in whole.perm.values())


def test_unrelated_networks_end_where_no_network_can_rise_alone() -> None:
    symmetry, rng = Symmetry(SPEC, SHAPES), torch.Generator().manual_seed(1)
    networks = [drawn(rng) for _ in range(5)]
    elements, objective = universal(symmetry, networks, [symmetry.identity()] * 5, rng)
    assert objective[-1] > objective[0]
    assert all(torch.equal(p, torch.arange(len(p))) for p in elements[0].perm.values())
    _, again = universal(symmetry, networks, elements, rng)
    assert len(again) == 2
    assert again[1] - objective[-1] < 1e-6 * objective[-1]
