"""What units say of noise: it moves with them, and is what the network itself would say."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from deepalign_cli.network import responses as module
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.responses import (
    Responses,
    can_respond,
    convolves,
    inputs_of,
    noise_fields,
    responses,
)
from deepalign_cli.network.waves import sketch
from deepalign_cli.symmetry.spec import Activation
from tests.network.builders import Stack, acted, bound, network, stacked
from tests.symmetry.builders import seeded

READ = ["mlp", "mlp_layernorm", "plain_cnn", "resnet_basic", "preact_resnet"]


@pytest.fixture(autouse=True)
def few_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIELDS", 8)
    monkeypatch.setattr(module, "_SAMPLES", 40)


def gap(one: Responses, other: Responses, perm: dict[str, torch.Tensor]) -> float:
    pairs = [(one.onward, other.onward), (one.back, other.back)]
    return max(float((x[g][perm[g]] - y[g]).abs().max()) for x, y in pairs for g in x)


@pytest.mark.parametrize("name", READ)
def test_it_moves_with_the_units(name: str) -> None:
    symmetry, a = network(name)
    graph = Graph(symmetry)
    assert can_respond(graph)
    g = symmetry.random(seeded(3))
    own, moved = (responses(graph, w, 7) for w in (a, acted(symmetry, g, a)))
    assert set(own.onward) == set(own.back) == set(symmetry.sizes)
    assert gap(own, moved, {group: g.perm[group] for group in symmetry.sizes}) < 1e-9
    other = responses(graph, a, 8)
    assert gap(own, other, {group: torch.arange(n) for group, n in symmetry.sizes.items()}) > 0.1


@pytest.mark.parametrize("name", READ)
def test_responses_vary_by_one_about_zero(name: str) -> None:
    symmetry, a = network(name)
    found = responses(Graph(symmetry), a, 7)
    for x in found.onward.values():
        assert torch.allclose(x.mean(1), torch.zeros_like(x[:, 0]), atol=1e-9)
        assert torch.allclose(x.square().mean(1), torch.ones_like(x[:, 0]))
    for x in found.back.values():
        size = x.square().mean(1)
        assert bool(((size - 1).abs() < 1e-6).logical_or(size == 0).all())


def mlp_of(a: Stack, names: list[str], x: torch.Tensor) -> list[torch.Tensor]:
    """What every layer says of inputs, before its activation."""
    said = []
    for name in names:
        x = functional.linear(x, a[f"{name}.weight"][0], a[f"{name}.bias"][0])
        said.append(x)
        x = x.relu()
    return said


def test_an_mlp_says_what_it_says_when_it_is_run() -> None:
    symmetry = bound(
        {"a.weight": (9, 5), "a.bias": (9,), "b.weight": (7, 9), "b.bias": (7,), "c.weight": (3, 7)},
        a__weight="one 5", a__bias="one", b__weight="two one", b__bias="two", c__weight="3 two",
    )  # fmt: skip
    a = {
        n: torch.randn(1, *s, generator=seeded(i)).double()
        for i, (n, s) in enumerate(symmetry.shapes.items())
    }
    found = responses(Graph(symmetry), a, 7)
    x = sketch(7, 5, 1, 40, a["a.weight"])[:, 0].T
    for group, said in zip(("one", "two"), mlp_of(a, ["a", "b"], x), strict=True):
        on = said.relu().std(0) > 1e-9
        heard = (said.relu() - said.relu().mean(0)) / said.relu().std(0, correction=0)
        assert torch.allclose(found.onward[group][on], heard.T[on], atol=1e-9)


def test_a_resized_unit_says_the_same() -> None:
    symmetry, a = network("mlp")
    graph, group = Graph(symmetry), next(iter(symmetry.sizes))
    (into,), (out,) = graph.writers[group], graph.readers[group]
    b = dict(a)
    b[into.cell.name] = 3 * a[into.cell.name]
    b[out.cell.name] = a[out.cell.name] / 3
    for vector in graph.vectors:
        if vector.group == group:
            b[vector.cell.name] = 3 * a[vector.cell.name]
    still = {g: torch.arange(n) for g, n in symmetry.sizes.items()}
    assert gap(responses(graph, a, 7), responses(graph, b, 7), still) < 1e-9


def test_slopes_are_of_the_outputs() -> None:
    symmetry = bound({"a.weight": (6, 4), "b.weight": (3, 6)}, a__weight="one 4", b__weight="3 one")
    a = {n: torch.randn(1, *s, generator=seeded(4)).double() for n, s in symmetry.shapes.items()}
    found = responses(Graph(symmetry), a, 7).back["one"]
    on = (sketch(7, 4, 1, 40, a["a.weight"])[:, 0].T @ a["a.weight"][0].T) > 0
    directions = torch.randn(40, 3, generator=torch.Generator().manual_seed(7)).double()
    slopes = ((directions @ a["b.weight"][0]) * on).T
    expected = slopes / (slopes.square().mean(1, keepdim=True).sqrt() + 1e-12)
    assert torch.allclose(found, expected, atol=1e-9)


def test_a_depthwise_convolution_filters_each_channel() -> None:
    symmetry = bound(
        {"a.weight": (5, 2, 3, 3), "d.weight": (5, 1, 3, 3), "c.weight": (3, 5)},
        a__weight="g 2 3 3", d__weight="g 1 3 3", c__weight="3 g",
    )  # fmt: skip
    a = {n: torch.randn(1, *s, generator=seeded(4)).double() for n, s in symmetry.shapes.items()}
    x = noise_fields(7, 8, 2, 8).double()
    for name, groups in (("a", 1), ("d", 5)):
        wrapped = functional.pad(x, (1, 1, 1, 1), mode="circular")
        x = functional.conv2d(wrapped, a[f"{name}.weight"][0], groups=groups).relu()
    rows = x.movedim(1, 0).flatten(1)
    expected = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True, correction=0)
    assert torch.allclose(responses(Graph(symmetry), a, 7).onward["g"], expected, atol=1e-9)


def test_dead_and_broken_units_say_nothing_that_is_no_number() -> None:
    symmetry, a = network("plain_cnn_bn")
    for name in a:
        a[name] = a[name].clone()
        a[name][:, :2] = 0
    first = next(n for n in a if a[n].ndim == 5)
    a[first][0, 2, 0, 0, 0] = torch.inf
    found = responses(Graph(symmetry), a, 7)
    assert all(bool(x.isfinite().all()) for said in (found.onward, found.back) for x in said.values())


@pytest.mark.parametrize("name", ["encoder", "gru", "lstm", "siren_signs"])
def test_what_the_graph_does_not_tell_is_left_alone(name: str) -> None:
    if name == "siren_signs":
        symmetry, _ = network("siren", Activation("sin"))
    elif name == "encoder":
        symmetry = bound(
            {"e.weight": (20, 6), "up.weight": (9, 6), "down.weight": (6, 9), "out.weight": (20, 6)},
            e__weight="20 s", up__weight="h s", down__weight="s h", out__weight="20 s",
        )  # fmt: skip
    else:
        made = nn.GRU(4, 5) if name == "gru" else nn.LSTM(4, 5)
        gates = 3 if name == "gru" else 4
        shapes = {n: tuple(w.shape) for n, w in made.state_dict().items() if "weight" in n}
        symmetry = bound(
            shapes | {"out.weight": (2, 5)},
            weight_ih_l0=f"{gates}*h 4", weight_hh_l0=f"{gates}*h h", out__weight="2 h",
        )  # fmt: skip
    assert not can_respond(Graph(symmetry))


def test_only_kernels_convolve() -> None:
    assert [convolves(Graph(network(name)[0])) for name in READ] == [False, False, True, True, True]


def test_large_networks_get_fewer_inputs() -> None:
    assert inputs_of(Graph(network("mlp")[0]), 1) == 40
    for width, side, count in ((2**21, 1, 8), (2**23, 1, 2), (2**25, 1, 1), (2**21, 8, 8)):
        wide = bound({"a.weight": (width, 4), "b.weight": (3, width)}, a__weight="g 4", b__weight="3 g")
        assert inputs_of(Graph(wide), side) == count
    axes = {"a__weight": "g 4", "b__weight": "h g", "c__weight": "3 h"}
    heavy = bound({"a.weight": (2**15, 4), "b.weight": (2**16, 2**15), "c.weight": (3, 2**16)}, **axes)
    assert inputs_of(Graph(heavy), 1) == 7


def test_half_of_the_noise_is_smooth() -> None:
    x = noise_fields(1, 400, 3, 8)
    assert float(x.std()) == pytest.approx(1, abs=0.05)
    for part, near in ((x[:200], 0.0), (x[200:], 0.4)):
        assert float((part * part.roll(1, 3)).mean()) == pytest.approx(near, abs=0.15)


def test_tensors_speak_when_their_sources_have() -> None:
    """Whatever the order that they are stored in."""
    shapes = {"a.weight": (6, 4), "b.weight": (7, 6), "c.weight": (3, 7)}
    axes = {"a__weight": "one 4", "b__weight": "two one", "c__weight": "3 two"}
    weights = {n: torch.randn(s, generator=seeded(4)) for n, s in shapes.items()}
    one, other = (
        responses(
            Graph(bound(shapes, **dict(reversed(axes.items())) if turned else axes)), stacked(weights), 7
        )
        for turned in (False, True)
    )
    assert all(torch.equal(x, other.onward[g]) for g, x in one.onward.items())


def test_what_overflows_float32_is_run_in_float64() -> None:
    shapes = {"a.weight": (6, 2, 3, 3), "b.weight": (7, 6, 3, 3), "c.weight": (8, 7, 3, 3)}
    shapes |= {"d.weight": (3, 8)}
    axes = {"a__weight": "f 2 3 3", "b__weight": "g f 3 3", "c__weight": "h g 3 3", "d__weight": "3 h"}
    graph = Graph(bound(shapes, **axes))
    drawn = {n: 1e15 * torch.randn(1, *s, generator=seeded(4)) for n, s in shapes.items()}
    found = responses(graph, drawn, 7)
    wanted = responses(graph, {n: w.double() for n, w in drawn.items()}, 7)
    for said, exact in ((found.onward, wanted.onward), (found.back, wanted.back)):
        assert said.keys() == exact.keys()
        for group, x in said.items():
            assert float(x.square().mean()) > 0.1
            torch.testing.assert_close(x, exact[group].float())
