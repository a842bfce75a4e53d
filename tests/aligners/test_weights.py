from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.weights import WeightMatching, default_restarts, descend
from deepalign_cli.symmetry.axes import without_marks
from deepalign_cli.symmetry.kinds import SCALE
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensors import is_trained
from tests import nets
from tests.aligners.builders import inner_product, planted, residual, trained
from tests.symmetry.builders import CASES, case, family_spec, generic, same_element, seeded, shapes_of

SCALED = [
    "named_mlp", "mlp_batchnorm", "mlp_layernorm", "plain_cnn_bn", "cifar_resnet", "preact_resnet",
    "transformer_postnorm",
]  # fmt: skip


def aligned(
    symmetry: Symmetry,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    restarts: int | None = None,
    seed: int = 0,
) -> Alignment:
    return WeightMatching(restarts)(symmetry, a, b, rng=seeded(seed))


@pytest.mark.parametrize("activation", [None, Activation.TANH], ids=["permutations", "signs"])
@pytest.mark.parametrize("name", CASES)
def test_a_planted_element_is_undone_exactly(name: str, activation: Activation | None) -> None:
    symmetry, a, b, wanted = planted(name, activation)
    found = aligned(symmetry, a, b)
    assert same_element(found.element, wanted)
    assert residual(symmetry, a, b, found.element) == 0.0
    assert found.distance_after == 0.0 < found.distance_before


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALED)
def test_planted_scales_are_undone_to_rounding(name: str) -> None:
    symmetry, a, b, wanted = planted(name, Activation.RELU)
    assert SCALE in symmetry.kinds.values()
    found = aligned(symmetry, a, b)
    assert same_element(found.element, wanted, rtol=1e-5)
    assert residual(symmetry, a, b, found.element) <= 1e-6


@pytest.mark.parametrize("name", ["mlp", "resnet_basic"])
def test_restarts_find_a_planted_element_through_noise(name: str) -> None:
    symmetry, a, b, wanted = planted(name, noise=0.3)
    assert same_element(aligned(symmetry, a, b).element, wanted)


@pytest.mark.slow
def test_signed_matching_sees_what_permutations_cannot() -> None:
    module = nets.tanh_mlp((10, 64, 64, 64, 5))
    a = generic(module)
    spec, shapes = family_spec(module), shapes_of(a)
    signed, bare = Symmetry(spec.with_activation(Activation.TANH), shapes), Symmetry(spec, shapes)
    g = signed.random(seeded(1))
    b = {n: w + 0.005 * torch.randn(w.shape, generator=seeded(2)) for n, w in signed.apply(g, a).items()}
    noise = 0.005 * sum(w.numel() for w in a.values()) ** 0.5
    found = aligned(signed, a, b)
    assert same_element(found.element, g.inverse())
    assert found.distance_after == pytest.approx(noise, rel=0.05)
    assert aligned(bare, a, b).distance_after > 20 * noise


@pytest.mark.slow
@pytest.mark.parametrize("activation", [None, Activation.TANH, Activation.RELU])
@pytest.mark.parametrize("name", ["mlp", "plain_cnn_bn", "cifar_resnet", "transformer_prenorm"])
def test_the_objective_rises_to_its_true_value(name: str, activation: Activation | None) -> None:
    symmetry, a = case(name, activation, seed=0)
    b = case(name, activation, seed=1)[1]
    problem = Gains(symmetry, a, b)
    element, trace = descend(problem, symmetry.identity(), seeded(0))
    assert len(trace) > 2
    assert all(later > earlier for earlier, later in itertools.pairwise(trace))
    assert trace[0] == pytest.approx(
        inner_product(symmetry, a, b, symmetry.identity()), abs=1e-6 * problem.scale
    )
    assert trace[-1] == pytest.approx(inner_product(symmetry, a, b, element), abs=1e-6 * problem.scale)


def test_the_recorded_distance_is_that_of_the_recorded_objective() -> None:
    symmetry, a, b = trained()
    found = aligned(symmetry, a, b)
    unmoved = sum(float((a[n] - b[n]).square().sum()) for n in a if not symmetry.moves(n))
    squared = Gains(symmetry, a, b).energy - 2 * found.objective[-1] + unmoved
    assert found.distance_after**2 == pytest.approx(squared, rel=1e-5)
    assert found.distance_after < found.distance_before


@pytest.mark.slow
def test_more_restarts_never_end_farther_away_and_sometimes_nearer() -> None:
    nearer = []
    for activation in (None, Activation.TANH):
        symmetry, a, b = trained("relu" if activation is None else "tanh")
        symmetry = Symmetry(symmetry.spec.with_activation(activation), symmetry.shapes)
        ends = [aligned(symmetry, a, b, restarts).distance_after for restarts in (1, 2, 4, 8, 16)]
        assert all(later <= earlier + 1e-5 for earlier, later in itertools.pairwise(ends))
        nearer.append(ends[-1] < ends[0])
    assert any(nearer)


@pytest.mark.slow
def test_one_seed_one_element() -> None:
    symmetry, a, b = trained()
    one, other = aligned(symmetry, a, b, seed=3), aligned(symmetry, a, b, seed=3)
    assert same_element(one.element, other.element)
    assert one.objective == other.objective


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["trained", "named_mlp", "plain_cnn_bn", "cifar_resnet"])
def test_the_objective_is_that_of_a_plain_descent_or_better(name: str, seed: int) -> None:
    reference = pytest.importorskip("benchmarks.reference")
    if name == "trained":
        symmetry, a, b = trained()
    else:
        symmetry, a, b, _ = planted(name, noise=1.0)
    axes = {
        n: [str(axis) for axis in without_marks(line)]
        for n, line in symmetry.spec.axes.items()
        if symmetry.moves(n) and is_trained(n, a[n])
    }
    layout, left = reference.prepared(axes, a)
    _, right = reference.prepared(axes, b)
    perm, _ = reference.weight_matching(layout, left, right, seed)
    plain = reference.objective(layout, left, right, perm)
    assert inner_product(symmetry, a, b, aligned(symmetry, a, b).element) >= plain * (1 - 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_aligned(dtype: torch.dtype) -> None:
    symmetry, a = case("mlp_batchnorm")
    a = {n: w.to(dtype) if w.is_floating_point() else w for n, w in a.items()}
    g = symmetry.random(seeded(1))
    assert same_element(aligned(symmetry, a, symmetry.apply(g, a)).element, g.inverse())


def test_only_counted_tensors_enter_the_objective_but_all_move() -> None:
    symmetry, a, b, wanted = planted("mlp_batchnorm")
    b = {n: w + 100 * torch.rand(w.shape, generator=seeded(0)) if "running" in n else w for n, w in b.items()}
    assert same_element(aligned(symmetry, a, b).element, wanted)  # statistics do not count
    fooled = WeightMatching(1, counted=lambda name, w: "running" in name)(symmetry, a, b, rng=seeded(0))
    assert not same_element(fooled.element, wanted)


@pytest.mark.slow
def test_inputs_are_left_alone() -> None:
    symmetry, a, b, _ = planted("mlp", Activation.RELU)
    kept = [{n: w.clone() for n, w in x.items()} for x in (a, b)]
    aligned(symmetry, a, b)
    assert all(torch.equal(x[n], y[n]) for x, y in zip((a, b), kept, strict=True) for n in a)


@pytest.mark.slow
def test_restarts_are_few_where_one_run_is_long() -> None:
    def of(*sizes: int) -> int:
        return default_restarts(case("mlp")[0] if not sizes else Symmetry(*_wide(*sizes)))

    assert [of(), of(400), of(2048)] == [10, 5, 1]
    symmetry, a, b = trained()
    assert aligned(symmetry, a, b).details["restarts"] == 10
    assert aligned(symmetry, a, b, 3).details["restarts"] == 3


def _wide(width: int) -> tuple:  # type: ignore[type-arg]
    spec = family_spec(nets.mlp((2, 3, 2)))
    return spec, {"0.weight": (width, 2), "0.bias": (width,), "2.weight": (2, width), "2.bias": (2,)}
