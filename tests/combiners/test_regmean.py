"""RegMean against least squares."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepalign_cli.combiners.regmean import RegressionMean, input_grams
from tests.symmetry.builders import seeded


def test_it_is_the_solution_of_least_squares() -> None:
    rng = seeded(0)
    ws = [torch.randn(3, 5, generator=rng).double() for _ in range(2)]
    xs = [torch.randn(50, 5, generator=rng).double() * scale for scale in (1.0, 3.0)]

    def run(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional.linear(x, weights["w"])

    grams = [input_grams(run, {"w": w}, lambda x=x: x.split(20)) for w, x in zip(ws, xs, strict=True)]  # type: ignore[misc]
    merged = RegressionMean((0.5, 0.5), 1.0, grams)("w", ws)
    inputs, outputs = torch.cat(xs), torch.cat([x @ w.T for x, w in zip(xs, ws, strict=True)])
    assert torch.allclose(merged, torch.linalg.lstsq(inputs, outputs).solution.T, atol=1e-4)
    diagonal = RegressionMean((0.5, 0.5), 0.0, grams)("w", ws)
    sizes = [x.square().mean(0) for x in xs]
    assert torch.allclose(diagonal, (sizes[0] * ws[0] + sizes[1] * ws[1]) / (sizes[0] + sizes[1]), atol=1e-4)
    for weights, w in (((1.0, 0.0), ws[0]), ((0.0, 1.0), ws[1])):
        assert torch.allclose(RegressionMean(weights, 0.9, grams)("w", ws), w, atol=1e-5)


@pytest.mark.parametrize("transposed", [False, True])
def test_directions_that_no_input_has_are_averaged(transposed: bool) -> None:
    ws = [torch.randn(3, 4, generator=seeded(seed)) for seed in range(2)]
    x = torch.randn(30, 4, generator=seeded(5))
    x[:, 2] = 0

    def run(weights: dict[str, Tensor], batch: Tensor) -> Tensor:
        return batch @ weights["w"] if transposed else functional.linear(batch, weights["w"])

    stored = [w.T.contiguous() if transposed else w for w in ws]
    grams = [input_grams(run, {"w": w}, lambda: [x]) for w in stored]
    merged = RegressionMean((0.25, 0.75), 0.9, grams)("w", stored)
    merged = merged.T if transposed else merged
    assert torch.allclose(merged, 0.25 * ws[0] + 0.75 * ws[1], atol=1e-4)  # both see the same inputs


def test_only_linear_layers_have_grams() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 2))
    state = {n: w.detach() for n, w in net.state_dict().items()}

    def run(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(net, weights, x)
        return out

    x = torch.randn(8, 1, 4, 4, generator=seeded(0))
    grams = input_grams(run, state, lambda: x.split(3))
    assert grams.keys() == {"3.weight", "4.weight"}
    hidden = net[:3](x).double()
    assert torch.allclose(grams["3.weight"].matrix, hidden.T @ hidden / 8, atol=1e-6)
    conv = [torch.randn(3, 1, 3, 3, generator=seeded(i)) for i in range(2)]
    mean = RegressionMean((0.5, 0.5), 0.9, [grams, grams])("0.weight", conv)
    assert torch.allclose(mean, (conv[0] + conv[1]) / 2)
