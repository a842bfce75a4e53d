from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.assignment import log_sinkhorn
from deepalign_cli.network.soft import soft_act, straight_through
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.network.builders import acted, bound, network
from tests.symmetry.builders import CASES, seeded


def doubly_stochastic(n: int, seed: int) -> Tensor:
    """A mean of permutation matrices, as a stack of one."""
    draw = seeded(seed)
    matrices = [torch.eye(n, dtype=torch.float64)[torch.randperm(n, generator=draw)] for _ in range(4)]
    return torch.stack(matrices).mean(0, keepdim=True)


def doubly_stochastic_of(symmetry: Symmetry, seed: int) -> dict[str, Tensor]:
    return {g: doubly_stochastic(n, seed + i) for i, (g, n) in enumerate(symmetry.sizes.items())}


@pytest.mark.parametrize("name", CASES)
def test_permutation_matrices_act_as_the_element_does(name: str) -> None:
    symmetry, a = network(name)
    g = symmetry.random(seeded(1))
    hard = {k: torch.eye(len(p), dtype=torch.float64)[p].unsqueeze(0) for k, p in g.perm.items()}
    expected = acted(symmetry, g, a)
    found = {n: soft_act(symmetry, hard, n, w) for n, w in a.items()}
    assert [n for n in a if not torch.equal(found[n], expected[n])] == []
    assert any(not torch.equal(found[n], a[n]) for n in a)


@pytest.mark.parametrize("name", CASES)
def test_the_action_is_linear_in_the_tensor(name: str) -> None:
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    soft = doubly_stochastic_of(symmetry, 1)
    for n in a:
        left = soft_act(symmetry, soft, n, a[n] - 2 * b[n])
        right = soft_act(symmetry, soft, n, a[n]) - 2 * soft_act(symmetry, soft, n, b[n])
        assert torch.allclose(left, right, atol=1e-12)
        assert left.shape == a[n].shape


def test_a_matrix_multiplies_every_axis_of_its_group() -> None:
    symmetry = bound({"w": (4, 2 + 3), "q": (2 * 3 * 2, 4)}, w="a  b|c", q="2*c*2 a")
    soft = doubly_stochastic_of(symmetry, 5)
    a, b, c = (soft[g][0] for g in "abc")
    w = torch.randn(1, 4, 5, generator=seeded(1), dtype=torch.float64)
    block = torch.zeros(5, 5, dtype=torch.float64)
    block[:2, :2], block[2:, 2:] = b, c
    assert torch.allclose(soft_act(symmetry, soft, "w", w)[0], a @ w[0] @ block.T)
    q = torch.randn(1, 12, 4, generator=seeded(2), dtype=torch.float64)
    expected = torch.einsum("ij,xjyk,lk->xiyl", c, q.reshape(2, 3, 2, 4), a).reshape(12, 4)
    assert torch.allclose(soft_act(symmetry, soft, "q", q)[0], expected)


def test_a_matrix_multiplies_the_parts_of_a_nested_axis() -> None:
    symmetry = bound({"w": (3 * (2 + 4), 5), "b": (4,)}, w="a*(2|b) c", b="b")
    soft = doubly_stochastic_of(symmetry, 5)
    a, b, c = (soft[g][0] for g in "abc")
    w = torch.randn(1, 18, 5, generator=seeded(1), dtype=torch.float64)
    inner = torch.block_diag(torch.eye(2, dtype=torch.float64), b)
    expected = torch.einsum("ij,kl,mn,jln->ikm", a, inner, c, w.reshape(3, 6, 5)).reshape(18, 5)
    assert torch.allclose(soft_act(symmetry, soft, "w", w)[0], expected)


def test_each_network_of_a_stack_is_moved_by_its_own_matrix() -> None:
    symmetry, a = network("plain_cnn")
    first, second = (doubly_stochastic_of(symmetry, seed) for seed in (1, 50))
    both = {g: torch.cat([first[g], second[g]]) for g in first}
    for n, w in a.items():
        found = soft_act(symmetry, both, n, torch.cat([w, w]))
        assert torch.allclose(found[:1], soft_act(symmetry, first, n, w))
        assert torch.allclose(found[1:], soft_act(symmetry, second, n, w))


def test_groups_without_a_matrix_stay() -> None:
    symmetry, a = network("mlp")
    some = {"h0": doubly_stochastic(symmetry.sizes["h0"], 1)}
    assert soft_act(symmetry, {}, "2.weight", a["2.weight"]) is a["2.weight"]
    assert soft_act(symmetry, some, "4.weight", a["4.weight"]) is a["4.weight"]
    expected = a["2.weight"][0] @ some["h0"][0].T
    assert torch.allclose(soft_act(symmetry, some, "2.weight", a["2.weight"])[0], expected)


def test_gradients_reach_the_matrices() -> None:
    symmetry, a = network("mlp")
    soft = {g: p.requires_grad_() for g, p in doubly_stochastic_of(symmetry, 1).items()}
    total = torch.stack([soft_act(symmetry, soft, n, w).square().sum() for n, w in a.items()]).sum()
    gradients = torch.autograd.grad(total, list(soft.values()))
    assert all(float(x.abs().max()) > 0 for x in gradients)


def test_straight_through_is_hard_forward_and_soft_backward() -> None:
    soft = log_sinkhorn(2 * torch.randn(3, 6, 6, generator=seeded(1), dtype=torch.float64)).exp()
    soft.requires_grad_()
    made = straight_through(soft)
    rounded = made.detach().round()
    assert torch.allclose(made.detach(), rounded, atol=1e-12)
    assert torch.equal(rounded.sum(1), torch.ones(3, 6, dtype=torch.float64))
    assert torch.equal(rounded.sum(2), torch.ones(3, 6, dtype=torch.float64))
    assert set(rounded.flatten().tolist()) == {0.0, 1.0}
    weights = torch.randn(3, 6, 6, generator=seeded(2), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((made * weights).sum(), [soft])
    assert torch.equal(gradient, weights)


def test_straight_through_leaves_a_permutation_alone() -> None:
    p = torch.eye(5)[torch.randperm(5, generator=seeded(1))].unsqueeze(0)
    assert torch.equal(straight_through(p), p)
