from __future__ import annotations

import math

import pytest
import torch

from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.universal import Universal
from tests.network.builders import SEEDS, SMALL, aligner, network


@pytest.mark.parametrize(("log", "expected"), [(0.0, 1.0), (math.log(10), 10.0), (50.0, 40.0)])
def test_the_temperature_is_positive_and_bounded(log: float, expected: float) -> None:
    model = DeepAlign(Universal(SMALL))
    with torch.no_grad():
        model.log_temperature.fill_(log)
    assert float(model.temperature.detach()) == pytest.approx(expected, rel=1e-6)


def test_the_temperature_is_learned() -> None:
    model = DeepAlign(Universal(SMALL))
    (gradient,) = torch.autograd.grad(model.temperature, [model.log_temperature])
    assert float(gradient) == pytest.approx(10.0, rel=1e-6)
    assert "log_temperature" in model.state_dict()


def test_encoding_is_the_encoders() -> None:
    model = aligner()
    symmetry, a = network("mlp")
    graph = Graph(symmetry)
    found, expected = model.encode(graph, a, SEEDS), model.encoder(graph, a, SEEDS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[g], expected[g]) for g in expected)


def test_encoding_is_the_same_every_time_and_leaves_the_weights_alone() -> None:
    model = aligner()
    symmetry, a = network("plain_cnn_bn")
    kept = {n: w.clone() for n, w in a.items()}
    first, second = (model.encode(Graph(symmetry), a, SEEDS) for _ in range(2))
    assert all(torch.equal(first[g], second[g]) for g in first)
    assert all(torch.equal(a[n], kept[n]) for n in a)
