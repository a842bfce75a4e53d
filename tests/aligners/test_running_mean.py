"""MergeMany: noisy copies are found, means are right, and no round that loses is kept."""

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.running_mean import onto_mean
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.progress import Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from tests.aligners.test_universe import SHAPES, SPEC, drawn

SYMMETRY = Symmetry(SPEC, SHAPES)


def by_weights(reference: Weights, moving: Weights, _: Progress) -> Element:
    return WeightMatching(1)(SYMMETRY, reference, moving, rng=torch.Generator().manual_seed(0)).element


def noisy_copies(rng: torch.Generator) -> tuple[list[Element], list[dict[str, Tensor]]]:
    parent, planted = drawn(rng), [SYMMETRY.random(rng) for _ in range(4)]
    moved = [SYMMETRY.apply(g, parent) for g in planted]
    noisy = [{n: w + 0.3 * torch.randn(w.shape, generator=rng) for n, w in one.items()} for one in moved]
    return planted, noisy


def test_noisy_copies_are_carried_onto_the_first_from_anywhere() -> None:
    planted, networks = noisy_copies(torch.Generator().manual_seed(0))
    elements, objective = onto_mean(SYMMETRY, networks, [SYMMETRY.identity()] * 4, by_weights)
    assert objective == sorted(objective)
    for g, plant in zip(elements, planted, strict=True):
        whole = g @ plant @ planted[0].inverse()
        assert all(torch.equal(p, torch.arange(len(p))) for p in whole.perm.values())


def test_a_round_that_loses_is_not_kept() -> None:
    planted, networks = noisy_copies(torch.Generator().manual_seed(1))
    start = [planted[0] @ g.inverse() for g in planted]
    rng = torch.Generator().manual_seed(2)
    elements, objective = onto_mean(SYMMETRY, networks, start, lambda *_: SYMMETRY.random(rng))
    assert len(objective) == 1
    for g, one in zip(elements, start, strict=True):
        assert all(torch.equal(g.perm[h], p) for h, p in one.perm.items())


def test_the_method_sees_the_mean_of_all_others_and_whole_numbers_as_they_are() -> None:
    rng = torch.Generator().manual_seed(3)
    networks = [drawn(rng) | {"count": torch.tensor(i)} for i in range(3)]
    seen: list[Weights] = []

    def match(reference: Weights, moving: Weights, _: Progress) -> Element:
        seen.append(reference)
        return SYMMETRY.identity()

    symmetry = Symmetry(SPEC, {**SHAPES, "count": ()})
    onto_mean(symmetry, networks, [SYMMETRY.identity()] * 3, match)
    torch.testing.assert_close(seen[0]["1.weight"], (networks[1]["1.weight"] + networks[2]["1.weight"]) / 2)
    assert seen[0]["count"] == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_mean_stays_that_of_all_others_as_they_lie_to_rounding(dtype: torch.dtype) -> None:
    """Also behind one network a million times as large, taken out of the sum and put back."""
    rng = torch.Generator().manual_seed(4)
    networks = [{n: w.to(dtype) for n, w in drawn(rng).items()} for _ in range(5)]
    networks[2] = {n: w * 1e6 for n, w in networks[2].items()}
    before = [{n: w.clone() for n, w in one.items()} for one in networks]
    lying = [SYMMETRY.random(rng) for _ in networks]
    turns = iter(list(range(5)) * 4)

    def match(reference: Weights, moving: Weights, _: Progress) -> Element:
        i = next(turns)
        assert moving is networks[i]
        others = [SYMMETRY.apply(g, networks[j]) for j, g in enumerate(lying) if j != i]
        for name, w in reference.items():
            mean = torch.stack([one[name].double() for one in others]).mean(0)
            assert w.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            torch.testing.assert_close(w.double(), mean, rtol=2e-7, atol=1e-8)
        lying[i] = SYMMETRY.random(rng)
        return lying[i]

    onto_mean(SYMMETRY, networks, list(lying), match)

    for one, same in zip(networks, before, strict=True):
        assert all(torch.equal(one[n], w) for n, w in same.items())


def test_a_round_moves_each_network_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(5)
    networks = [drawn(rng) for _ in range(6)]
    moved: list[str] = []
    act = Symmetry.act

    def counted(symmetry: Symmetry, g: Element, name: str, w: Tensor) -> Tensor:
        moved.append(name)
        return act(symmetry, g, name, w)

    monkeypatch.setattr(Symmetry, "act", counted)
    objective = onto_mean(SYMMETRY, networks, [SYMMETRY.identity()] * 6, lambda *_: SYMMETRY.identity())[1]
    assert len(objective) == 1
    assert len(moved) == (1 + 3) * 6 * len(SHAPES)
