from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.network.folded import FoldedLinear
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.strengths import Matrix
from deepalign_cli.network.universal import Universal, UniversalConfig, back, onward
from tests.network.builders import SEEDS, SMALL, aligner, bound, network, stacked
from tests.network.plain_universal import plain_features
from tests.symmetry.builders import CASES, seeded

Stack = dict[str, Tensor]
SOME = ["mlp", "plain_cnn_bn", "cifar_resnet", "vision_transformer"]


def encoder() -> Universal:
    made: Universal = aligner().encoder
    return made


def two(name: str) -> tuple[Graph, Stack, Stack, Stack]:
    """A graph, two networks, and the stack of both."""
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    return Graph(symmetry), a, b, stacked(*({n: w[0] for n, w in x.items()} for x in (a, b)))


def same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_features_are_finite_and_differ_from_unit_to_unit(name: str) -> None:
    symmetry, a = network(name)
    features = encoder()(Graph(symmetry), a, SEEDS)
    assert list(features) == list(symmetry.sizes)
    for g, n in symmetry.sizes.items():
        assert features[g].shape == (len(SEEDS), n, SMALL.out)
        apart = torch.cdist(features[g][0], features[g][0]).fill_diagonal_(torch.inf)
        assert float(apart.min()) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_one_network_under_many_sketches_is_each_sketch_alone(name: str) -> None:
    graph, a, _, _ = two(name)
    together = encoder()(graph, a, SEEDS)
    for place, seed in enumerate(SEEDS):
        alone = encoder()(graph, a, [seed])
        assert all(same(together[g][place], alone[g][0]) for g in alone)
    first = next(iter(together.values()))
    assert not torch.allclose(first[0], first[1], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("seeds", [[5], [5, 6]])
def test_networks_of_a_stack_do_not_see_one_another(name: str, seeds: list[int]) -> None:
    graph, a, b, both = two(name)
    together = encoder()(graph, both, seeds)
    for place, (one, seed) in enumerate(zip((a, b), (seeds * 2)[:2], strict=True)):
        alone = encoder()(graph, one, [seed])
        assert all(same(together[g][place], alone[g][0]) for g in alone)


@pytest.mark.parametrize("name", SOME)
def test_it_is_what_its_equations_say(name: str) -> None:
    graph, a, _, _ = two(name)
    model = Universal(SMALL).double()
    with torch.no_grad():
        for parameter in model.parameters():  # norms, too, are then no identity
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(4), dtype=torch.float64))
        found, expected = model(graph, a, SEEDS), plain_features(model, graph, a, SEEDS)
    assert all(same(found[g], expected[g]) for g in expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_float32_gives_the_same_features(name: str) -> None:
    graph, a, _, _ = two(name)
    single = Universal(SMALL)
    single.load_state_dict(encoder().state_dict())
    with torch.no_grad():
        found = single(graph, {n: w.float() for n, w in a.items()}, SEEDS)
    exact = encoder()(graph, a, SEEDS)
    assert all(torch.allclose(found[g].double(), exact[g], atol=1e-3) for g in exact)


def test_every_parameter_learns() -> None:
    model = Universal(UniversalConfig(channels=8, hidden=8, sketch=8, sweeps=2, out=8)).double()
    symmetry, a = network("plain_cnn")
    features = model(Graph(symmetry), a, [1])
    torch.autograd.backward(torch.stack([(f**3).sum() for f in features.values()]).sum())
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def test_news_of_the_outputs_reaches_the_first_layer_in_one_sweep() -> None:
    model = Universal(UniversalConfig(channels=16, hidden=16, sketch=16, sweeps=1, out=16)).double()
    symmetry, a = network("vgg")
    changed = {**a, "classifier.6.weight": a["classifier.6.weight"].flip(1)}
    before, after = (model(Graph(symmetry), w, [1]) for w in (a, changed))
    assert float((before["features.0"] - after["features.0"]).detach().abs().max()) > 1e-9


@pytest.mark.parametrize(("n_a", "n_b", "inputs", "classes"), [(1, 1, 1, 1), (1, 7, 300, 2), (9, 2, 3, 100)])
def test_any_width_and_any_number_of_labels_is_read(n_a: int, n_b: int, inputs: int, classes: int) -> None:
    shapes = {"one.weight": (n_a, inputs), "two.weight": (n_b, n_a), "out.weight": (classes, n_b)}
    symmetry = bound(shapes, one__weight=f"a {inputs}", two__weight="b a", out__weight=f"{classes} b")
    w = {n: torch.randn(1, *s, generator=seeded(1), dtype=torch.float64) for n, s in shapes.items()}
    features = encoder()(Graph(symmetry), w, SEEDS)
    assert {g: tuple(f.shape) for g, f in features.items()} == {"a": (3, n_a, 32), "b": (3, n_b, 32)}
    assert all(f.isfinite().all() for f in features.values())


def test_products_are_sums_over_units_and_waves() -> None:
    draw = seeded(1)
    w = torch.randn(2, 4, 5, 3, generator=draw, dtype=torch.float64)
    values = torch.randn(3, 6, 6, generator=draw, dtype=torch.float64)
    shift = torch.randn(3, 6, generator=draw, dtype=torch.float64)
    x = torch.randn(2, 5, 1, 6, generator=draw, dtype=torch.float64)
    y = torch.randn(2, 4, 1, 6, generator=draw, dtype=torch.float64)
    one = torch.ones(2, 4, 1, dtype=torch.float64)
    drive, pull = (torch.rand(2, n, 1, generator=draw, dtype=torch.float64) for n in (5, 4))
    matrix, layer = Matrix(lambda: w, one, one, one[:, :1].expand(2, 5, 1)), FoldedLinear(values, shift)

    def scaled(z: Tensor, scale: Tensor) -> Tensor:
        return (torch.einsum("bnqc,kcd->bnkqd", z, values) + shift[:, None]) * scale[..., None, None]

    assert same(onward(matrix, x, layer, drive), torch.einsum("btsk,bskqd->btqd", w, scaled(x, drive)))
    assert same(back(matrix, y, layer, pull), torch.einsum("btsk,btkqd->bsqd", w, scaled(y, pull)))
    alone = Matrix(lambda: w[:1], one[:1], one[:1], one[:1, :1].expand(1, 5, 1))
    many, back_many = (torch.cat([z, z + 1], dim=2)[:1] for z in (x, y))
    found, found_back = onward(alone, many, layer, drive[:1]), back(alone, back_many, layer, pull[:1])
    assert same(found, torch.einsum("btsk,bskqd->btqd", w[:1], scaled(many, drive[:1])))
    assert same(found_back, torch.einsum("btsk,btkqd->bsqd", w[:1], scaled(back_many, pull[:1])))
    single = Matrix(lambda: w[..., :1], one, one, one[:, :1].expand(2, 5, 1))
    expected = torch.einsum("bts,bsqd->btqd", w[..., 0], scaled(x, drive)[:, :, 0])
    assert same(onward(single, x, layer, drive), expected)
