from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.assignment import log_sinkhorn
from deepalign_cli.train.objectives import (
    carried,
    distance_loss,
    noisy,
    path_loss,
    planted_loss,
)
from deepalign_cli.train.pool import PoolEntry
from deepalign_cli.train.zoo_losses import batch_of, losses
from tests.symmetry.builders import seeded
from tests.train.builders import trained


def stack(seed: int, batch: int = 3) -> dict[str, Tensor]:
    draw = seeded(seed)
    shapes = {"w": (4, 5), "b": (4,), "bn.running_var": (4,)}
    return {n: torch.randn(batch, *s, generator=draw, dtype=torch.float64) for n, s in shapes.items()}


def pair(entry: PoolEntry) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Two stacks of two networks of a family, and the firsts' members."""
    first, second = torch.tensor([0, 1]), torch.tensor([1, 0])
    if entry.family.task.field:
        second = torch.tensor([4, 5])
    return entry.stack(first), entry.stack(second), entry.family.member[first]


def soft_of(entry: PoolEntry, batch: int = 2) -> dict[str, Tensor]:
    draw = seeded(3)
    sizes = entry.graph.symmetry.sizes
    return {g: log_sinkhorn(torch.randn(batch, n, n, generator=draw)).exp() for g, n in sizes.items()}


def test_the_planted_loss_is_the_true_partners_cross_entropy() -> None:
    logs = log_sinkhorn(torch.randn(2, 5, 5, generator=seeded(1)), 200)
    expected = -sum(float(logs[k, i, i]) for k in range(2) for i in range(5)) / 10
    assert float(planted_loss({"k": logs})) == pytest.approx(expected, rel=1e-5)
    both = {"k": logs, "l": logs[:, :3, :3]}
    parts = [float(planted_loss({g: x})) for g, x in both.items()]
    assert float(planted_loss(both)) == pytest.approx(sum(parts) / 2, rel=1e-5)


def test_the_planted_loss_is_least_where_every_unit_finds_itself() -> None:
    sharp = 30 * torch.eye(6).expand(2, 6, 6)
    best = planted_loss({"k": log_sinkhorn(sharp)})
    assert 0 <= float(best) < 1e-3
    for seed in range(5):
        wrong = sharp[:, torch.randperm(6, generator=seeded(seed))]
        blurred = torch.randn(2, 6, 6, generator=seeded(seed))
        assert float(planted_loss({"k": log_sinkhorn(wrong)})) > 1
        assert float(planted_loss({"k": log_sinkhorn(blurred)})) > 0.1


def test_the_distance_loss_runs_from_nothing_to_no_gain() -> None:
    a, b = stack(1), stack(2)
    assert float(distance_loss(a, b, b)) == 1.0
    assert float(distance_loss(a, b, a)) == 0.0
    halfway = {n: (a[n] + b[n]) / 2 for n in a}
    assert float(distance_loss(a, b, halfway)) == pytest.approx(0.25)


def test_statistics_do_not_count_in_the_distance() -> None:
    a, b = stack(1), stack(2)
    other = {**a, "bn.running_var": a["bn.running_var"] + 100}
    assert float(distance_loss(a, b, other)) == 0.0


def test_pairs_count_the_same_at_any_scale() -> None:
    a, b, moved = stack(1), stack(2), stack(3)
    scale = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)

    def scaled(x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n: w * scale.reshape(-1, *[1] * (w.ndim - 1)) for n, w in x.items()}

    before, after = distance_loss(a, b, moved), distance_loss(scaled(a), scaled(b), scaled(moved))
    assert torch.allclose(before, after)


def test_the_identity_leaves_the_distance_and_the_answer_removes_it() -> None:
    entry = trained()
    symmetry, a = entry.graph.symmetry, entry.stack(torch.tensor([0, 1]))
    g = symmetry.random(seeded(1))
    hard = {k: torch.eye(len(p))[p].expand(2, -1, -1) for k, p in g.perm.items()}
    b = carried(symmetry, hard, a)
    same = {k: torch.eye(n).expand(2, -1, -1) for k, n in symmetry.sizes.items()}
    assert float(distance_loss(a, b, carried(symmetry, same, b))) == 1.0
    assert float(distance_loss(a, b, carried(symmetry, {k: p.mT for k, p in hard.items()}, b))) == 0.0


@pytest.mark.parametrize("kind", ["mlp", "field"])
def test_the_path_loss_is_finite_and_moves_every_matrix(kind: str) -> None:
    entry = trained(kind)
    a, b, member = pair(entry)
    soft = {g: p.requires_grad_() for g, p in soft_of(entry).items()}
    moved = carried(entry.graph.symmetry, soft, b)
    found = path_loss(entry.family, entry.examples, a, moved, member, seeded(1), 16)
    gradients = torch.autograd.grad(found, list(soft.values()))
    assert found.shape == ()
    assert found.isfinite()
    assert all(g.isfinite().all() and float(g.abs().max()) > 0 for g in gradients)


@pytest.mark.parametrize("kind", ["mlp", "field"])
def test_a_path_from_a_network_to_itself_costs_the_networks_own_loss(kind: str) -> None:
    entry = trained(kind)
    a, _, member = pair(entry)
    found = path_loss(entry.family, entry.examples, a, a, member, seeded(1), 16)
    draw = seeded(1)
    torch.rand(2, generator=draw)  # the places on the path
    rows = torch.randint(len(entry.examples.train_x), (2, 16), generator=draw)
    x, y = batch_of(entry.examples, entry.family.task, rows, member)
    expected = losses(entry.family.design, entry.family.task, a, x, y).mean()
    assert torch.allclose(found, expected, rtol=1e-5)


def test_noise_leaves_statistics_and_is_bounded() -> None:
    shapes = {"w": (40, 30, 30), "b": (40, 30), "bn.running_var": (40, 30)}
    weights = {n: torch.randn(*s, generator=seeded(len(n))) for n, s in shapes.items()}
    kept = {n: w.clone() for n, w in weights.items()}
    made, again = (noisy(weights, seeded(3)) for _ in range(2))
    assert all(torch.equal(weights[n], kept[n]) for n in weights)
    assert all(torch.equal(made[n], again[n]) for n in weights)
    assert torch.equal(made["bn.running_var"], weights["bn.running_var"])
    dropped = (made["w"] == 0).float().mean((1, 2))
    assert float(dropped.max()) < 0.2
    assert float(dropped.mean()) > 0.02
    noise = (made["w"] - weights["w"])[made["w"] != 0].std()
    assert 0.05 < float(noise) < 0.3
    assert not (made["b"] == 0).any()  # of vectors nothing is dropped
    assert not torch.equal(made["b"], weights["b"])
