"""Pairs of networks to align: planted, noisy, and trained on one task."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.func import functional_call

from deepalign_cli.models.run import Run
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_trained
from tests import nets
from tests.symmetry.builders import case, family_spec, seeded, shapes_of

Pair = tuple[Symmetry, dict[str, Tensor], dict[str, Tensor]]


def planted(
    name: str, activation: Activation | None = None, noise: float = 0.0, double: bool = False
) -> tuple[Symmetry, dict[str, Tensor], dict[str, Tensor], Element]:
    """A network, its image under a random element (plus relative noise), and the element's inverse."""
    symmetry, a = case(name, activation)
    if double:
        a = {n: w.double() if w.is_floating_point() else w for n, w in a.items()}
    g = symmetry.random(seeded(1))
    b = symmetry.apply(g, a)
    if noise:
        b = {n: jittered(w, noise, i) if is_trained(n, w) else w for i, (n, w) in enumerate(b.items())}
    return symmetry, a, b, g.inverse()


def jittered(w: Tensor, noise: float, seed: int) -> Tensor:
    draw = torch.randn(w.shape, generator=seeded(100 + seed), dtype=w.dtype)
    return w + noise * float(w.square().mean().sqrt()) * draw


@cache
def trained(activation: str = "relu", width: int = 24) -> Pair:
    """Two MLPs trained from different seeds on what a third one answers."""
    torch.manual_seed(9)
    teacher = nets.mlp((12, 8, 5), "tanh")
    x = torch.randn(512, 12)
    y = teacher(4 * x).argmax(1)
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = nets.mlp((12, width, width, 5), activation)
        optimiser = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(x), y).backward()
            optimiser.step()
        states.append({n: w.detach().clone() for n, w in module.state_dict().items()})
    return Symmetry(family_spec(module), shapes_of(states[0])), states[0], states[1]


def residual(symmetry: Symmetry, a: dict[str, Tensor], b: dict[str, Tensor], g: Element) -> float:
    """The largest difference between a and g b over all tensors, relative to each one's largest entry."""
    apart = [
        (a[n].double() - symmetry.act(g, n, b[n]).double()).abs().max() / a[n].double().abs().max() for n in a
    ]
    return float(max(apart))


def inner_product(symmetry: Symmetry, a: dict[str, Tensor], b: dict[str, Tensor], g: Element) -> float:
    """sum_t <A_t, (g B)_t> over all trained tensors that move."""
    moved = symmetry.apply(g, b)
    return sum(
        float((a[n].double() * moved[n].double()).sum())
        for n in a
        if symmetry.moves(n) and is_trained(n, a[n])
    )


def runner(name: str) -> tuple[Run, tuple[int, ...]]:
    """A network of the zoo as a function of its weights, and the shape of an example."""
    module, shape = nets.ALL[name]()
    module.eval()
    return lambda w, x: functional_call(module, dict(w), (x,)), shape


def mlp_run(weights: Weights, x: Tensor) -> Tensor:
    """The network of `trained`."""
    for i in (0, 2):
        x = torch.nn.functional.linear(x, weights[f"{i}.weight"], weights[f"{i}.bias"]).relu()
    return torch.nn.functional.linear(x, weights["4.weight"], weights["4.bias"])
