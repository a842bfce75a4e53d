from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from deepalign_cli.errors import NonFiniteError
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.strengths import VECTOR_FEATURES, strengths
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import SCALE
from deepalign_cli.symmetry.spec import Activation
from tests.network.builders import acted, bound, compared, largest_gap, network, stacked
from tests.symmetry.builders import CASES, seeded

WITHOUT_NORMS = ["mlp", "mlp_leaky_relu", "named_mlp", "plain_cnn", "vgg"]
WITH_BATCHNORM = ["mlp_batchnorm", "plain_cnn_bn", "cnn_gap", "vgg_bn", "resnet_basic", "cifar_resnet"]


@pytest.mark.parametrize("name", WITHOUT_NORMS)
def test_rescaled_relu_units_look_the_same(model: DeepAlign, name: str) -> None:
    (symmetry, a), (_, b) = network(name, Activation.RELU), network(name, seed=7)
    assert set(symmetry.kinds.values()) == {SCALE}
    scales = Element({}, symmetry.random(seeded(1)).scale)
    rescaled = acted(symmetry, scales, a)
    assert largest_gap(a, rescaled) > 0.1
    assert largest_gap(compared(model, symmetry, a, b), compared(model, symmetry, rescaled, b)) < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_BATCHNORM)
def test_the_scale_of_what_a_batchnorm_follows_is_not_seen(model: DeepAlign, name: str) -> None:
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    graph = Graph(symmetry)
    single = {g for g in graph.normed if len(graph.writers[g]) < 2}
    scaled, draw = dict(a), seeded(1)
    for edge in graph.edges:
        if edge.target in single:
            w = scaled[edge.cell.name]
            factors = torch.exp2(2 * torch.rand(w.shape[1], generator=draw, dtype=w.dtype) - 1)
            scaled[edge.cell.name] = w * factors.reshape(1, -1, *[1] * (w.ndim - 2))
    assert largest_gap(a, scaled) > 0.1
    assert largest_gap(compared(model, symmetry, a, b), compared(model, symmetry, scaled, b)) < 1e-11


@pytest.mark.parametrize("name", CASES)
def test_everything_is_finite_and_one_value_a_unit(name: str) -> None:
    symmetry, a = network(name)
    graph = Graph(symmetry)
    read = strengths(graph, a)
    for g, n in symmetry.sizes.items():
        assert read.drive[g].shape == (1, n, 1)
        assert read.importance[g].shape == (1, n)
        assert read.vectors[g].shape == (1, n, VECTOR_FEATURES)
        assert abs(float(read.importance[g].mean())) < 1e-12
    assert all(v.isfinite().all() for part in (read.drive, read.vectors) for v in part.values())
    assert set(read.matrices) == set(range(len(graph.edges)))


@pytest.mark.parametrize("name", ["mlp", "plain_cnn", "cifar_resnet", "vision_transformer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_networks_are_read_without_nan(name: str, dtype: torch.dtype) -> None:
    symmetry, a = network(name)
    read = strengths(Graph(symmetry), {n: torch.zeros_like(w, dtype=dtype) for n, w in a.items()})
    parts = [read.drive, read.importance, read.vectors]
    assert all(v.isfinite().all() for part in parts for v in part.values())
    assert all(x.isfinite().all() for m in read.matrices.values() for x in (m.w, m.down, m.pull, m.up))


def test_the_drive_is_the_root_mean_square_under_random_inputs() -> None:
    symmetry = bound(
        {"one__weight": (5, 3), "two__weight": (4, 5), "out__weight": (2, 4)},
        one__weight="a 3",
        two__weight="b a",
        out__weight="2 b",
    )
    draw = seeded(1)
    w = {n: torch.randn(1, *s, generator=draw, dtype=torch.float64) for n, s in symmetry.shapes.items()}
    read = strengths(Graph(symmetry), w)
    one, two, out = w["one.weight"][0], w["two.weight"][0], w["out.weight"][0]
    drive_a = one.square().sum(1)  # variances
    drive_b = two.square() @ drive_a
    read_b = out.square().sum(0)
    read_a = two.square().T @ read_b

    def same(found: Tensor, variance: Tensor) -> bool:
        return torch.allclose(found.flatten().square(), variance, rtol=1e-12)

    assert same(read.drive["a"], drive_a)
    assert same(read.drive["b"], drive_b)
    for group, product in (("a", drive_a * read_a), ("b", drive_b * read_b)):
        log = product.log() / 2
        assert torch.allclose(read.importance[group][0], log - log.mean(), atol=1e-9)


def test_networks_of_a_stack_are_read_apart() -> None:
    (symmetry, a), (_, b) = network("plain_cnn_bn"), network("plain_cnn_bn", seed=7)
    graph = Graph(symmetry)
    both = strengths(graph, stacked(*({n: w[0] for n, w in x.items()} for x in (a, b))))
    for place, one in enumerate((a, b)):
        alone = strengths(graph, one)
        for g in symmetry.sizes:
            assert torch.allclose(both.vectors[g][place], alone.vectors[g][0], atol=1e-12)
            assert torch.allclose(both.drive[g][place], alone.drive[g][0], rtol=1e-12)


@pytest.mark.parametrize("name", ["named_mlp", "plain_cnn", "mlp_batchnorm", "transformer_prenorm"])
def test_what_overflows_float32_is_read_as_in_float64(model: DeepAlign, name: str) -> None:
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    large = [{n: w * 1e12 if w.is_floating_point() else w for n, w in one.items()} for one in (a, b)]
    narrow = [{n: w.float() if w.is_floating_point() else w for n, w in one.items()} for one in large]
    wanted = compared(model, symmetry, *large)
    found = compared(copy.deepcopy(model).float(), symmetry, *narrow)
    assert all(w.dtype == torch.float32 for w in found.values())
    assert largest_gap(wanted, {g: w.double() for g, w in found.items()}) < 1e-3


def test_what_overflows_float64_is_named() -> None:
    symmetry, a = network("named_mlp")
    with pytest.raises(NonFiniteError, match="overflows") as caught:
        strengths(Graph(symmetry), {n: w * 1e120 for n, w in a.items()})
    assert "-m weights" in caught.value.hint
