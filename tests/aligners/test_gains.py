from __future__ import annotations

import pytest
import torch

from deepalign_cli.aligners.gains import Gains, update
from deepalign_cli.aligners.steps import Matrices, best_step
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.aligners.builders import inner_product, planted
from tests.symmetry.builders import case, seeded


def pair(name: str, activation: Activation | None) -> Gains:
    symmetry, a = case(name, activation, seed=0)
    b = case(name, activation, seed=1)[1]
    double = [{n: w.double() if w.is_floating_point() else w for n, w in x.items()} for x in (a, b)]
    return Gains(symmetry, *double)


def nudged(symmetry: Symmetry, g: Element, seed: int) -> Element:
    """The element with two units of every group swapped and one sign turned."""
    perm, scale = dict(g.perm), dict(g.scale)
    for group, size in symmetry.sizes.items():
        i, j = torch.randperm(size, generator=seeded(seed))[:2].tolist()
        index = torch.arange(size)
        index[[i, j]] = index[[j, i]]
        perm[group] = perm[group][index]
        if group in scale:
            scale[group] = scale[group][index]
            scale[group][i] *= -1
    return Element(perm, scale)


def close(one: Matrices, other: Matrices) -> bool:
    pairs = [(one.plain, other.plain), (one.flipping, other.flipping)]
    return all((x is None and y is None) or torch.allclose(x, y, rtol=1e-10, atol=1e-10) for x, y in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [None, Activation.TANH])
@pytest.mark.parametrize(
    "name", ["mlp", "mlp_layernorm", "plain_cnn", "resnet_bottleneck", "transformer_prenorm"]
)
def test_updated_gains_are_those_computed_afresh(name: str, activation: Activation | None) -> None:
    problem, updated = pair(name, activation), 0
    for group in problem.symmetry.sizes:
        g = problem.symmetry.random(seeded(0))
        kept = problem.partial(group, g, problem.names[group])
        for seed in range(3):  # each update rests on the one before
            g = nudged(problem.symmetry, g, seed)
            found = update(problem, group, kept, g)
            fresh = problem.partial(group, g, problem.names[group])
            if found is not None:
                assert close(found, fresh)
                assert not close(found, kept)
                updated += 1
            kept = found or fresh
    assert updated >= 3


def test_updates_know_signs_that_come_and_go() -> None:
    problem = pair("mlp", Activation.TANH)
    identity = problem.symmetry.identity()
    signed = Element(identity.perm, problem.symmetry.random(seeded(0)).scale)
    for group in problem.symmetry.sizes:
        own = Element(identity.perm, {group: signed.scale[group]})
        for old, new in ((identity, own), (own, identity)):
            kept = problem.partial(group, old, problem.names[group])
            found = update(problem, group, kept, new)
            assert found is not None
            assert close(found, problem.partial(group, new, problem.names[group]))


@pytest.mark.slow
@pytest.mark.parametrize("activation", [None, Activation.TANH])
@pytest.mark.parametrize("name", ["mlp", "cifar_resnet"])
def test_kept_gains_do_not_drift_over_many_steps(name: str, activation: Activation | None) -> None:
    problem = pair(name, activation)
    g = problem.symmetry.random(seeded(0))
    for seed in range(20):
        g = nudged(problem.symmetry, g, seed)
        for group in problem.symmetry.sizes:
            assert close(problem.matrices(group, g), problem.partial(group, g, problem.names[group]))


def test_updates_are_given_up_where_they_save_nothing() -> None:
    problem = pair("mlp", None)
    group, g = next(iter(problem.symmetry.sizes)), problem.symmetry.identity()
    kept = problem.partial(group, g, problem.names[group])
    assert update(problem, group, kept, problem.symmetry.random(seeded(0))) is None  # nearly all have moved
    old = Matrices(kept.plain, kept.flipping, g, age=8)
    assert update(problem, group, old, g) is None  # rounding would add up


@pytest.mark.slow
@pytest.mark.parametrize("activation", [None, Activation.TANH])
@pytest.mark.parametrize("name", ["mlp", "plain_cnn_bn", "cifar_resnet", "transformer_prenorm"])
def test_the_rise_of_a_step_is_true_and_the_best_of_many(name: str, activation: Activation | None) -> None:
    problem = pair(name, activation)
    symmetry, a, b = problem.symmetry, dict(problem.reference), dict(problem.moving)
    g = symmetry.random(seeded(0))
    start = inner_product(symmetry, a, b, g)
    for group in symmetry.sizes:
        step = problem.best_step(group, g)
        rise = inner_product(symmetry, a, b, step.element(group) @ g) - start
        assert step.rise == pytest.approx(rise, abs=1e-9)
        for seed in range(5):
            other = symmetry.only(symmetry.random(seeded(seed)), [group])
            assert inner_product(symmetry, a, b, other @ g) - start <= rise + 1e-9


def test_zero_counts_as_a_positive_sign() -> None:
    step = best_step(Matrices(torch.zeros(2, 2), torch.tensor([[0.0, -3.0], [0.0, 0.0]]), Element({})))
    assert step.perm.tolist() == [1, 0]
    assert step.sign is not None
    assert step.sign.tolist() == [-1, 1]
    assert step.rise == 3.0


def test_a_group_that_stands_twice_in_a_tensor_is_not_linear() -> None:
    spec = parse_spec('[axes]\nw = "k k"\nv = "h 3"\n')
    w = {"w": torch.eye(4), "v": torch.ones(2, 3)}
    problem = Gains(Symmetry(spec, {"w": (4, 4), "v": (2, 3)}), w, w)
    assert (problem.is_linear("k"), problem.is_linear("h")) == (False, True)


def test_energies_bound_the_objective() -> None:
    symmetry, a, b, wanted = planted("mlp_batchnorm")
    problem = Gains(symmetry, a, b)
    assert problem.objective(wanted) == pytest.approx(problem.scale)
    assert problem.energy == pytest.approx(2 * problem.scale)
    group = next(iter(symmetry.sizes))
    own = sum(float((a[n].double() ** 2).sum()) for n in problem.names[group])
    assert problem.objective(wanted, group) == pytest.approx(own)
    assert all("running" not in n and "tracked" not in n for n in problem.names[group])
