"""Aligners and stacked weights that the tests of the network share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.saved import load_network
from deepalign_cli.network.similarity import similarities
from deepalign_cli.network.universal import Universal, UniversalConfig
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation, Spec, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import case

Stack = dict[str, Tensor]

SHIPPED = Path(__file__).parents[2] / "pretrained" / "universal-v1.safetensors"
ALIGNERS = ["untrained", *([SHIPPED.stem] if SHIPPED.exists() else [])]
SMALL = UniversalConfig(channels=16, hidden=32, sketch=24, sweeps=2, out=32)
SEEDS = [1, 2, 3]


@cache
def aligner(name: str = "untrained") -> DeepAlign:
    """An aligner in float64: small and freshly initialised, or the one that is shipped."""
    if name != "untrained":
        return load_network(SHIPPED).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DeepAlign(Universal(SMALL)).double().requires_grad_(False)


def stacked(*weights: Mapping[str, Tensor]) -> Stack:
    """Networks in float64, side by side along a leading axis."""
    names = (n for n, w in weights[0].items() if w.is_floating_point())
    return {n: torch.stack([w[n] for w in weights]).double() for n in names}


def network(name: str, activation: Activation | None = None, seed: int = 0) -> tuple[Symmetry, Stack]:
    """A network of tests/nets.py as a stack of one."""
    symmetry, weights = case(name, activation, seed)
    return symmetry, stacked(weights)


def acted(symmetry: Symmetry, g: Element, stack: Stack) -> Stack:
    """Every network of a stack after an element has acted."""
    return {n: torch.stack([symmetry.act(g, n, one) for one in w]) for n, w in stack.items()}


def compared(model: DeepAlign, symmetry: Symmetry, a: Stack, b: Stack) -> dict[str, Tensor]:
    """The mean similarities of two networks over `SEEDS`, by group."""
    graph = Graph(symmetry)
    pair = similarities(model.encode(graph, a, SEEDS), model.encode(graph, b, SEEDS))
    return {g: s.mean(0) for g, s in pair.items()}


def largest_gap(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((x - other[g]).abs().max()) for g, x in one.items())


def spec_of(**axes: str) -> Spec:
    """A spec from lines; `__` stands for the dot of a tensor's name."""
    lines = (f'"{name.replace("__", ".")}" = "{text}"' for name, text in axes.items())
    return parse_spec("[axes]\n" + "\n".join(lines))


def bound(shapes: Mapping[str, tuple[int, ...]], **axes: str) -> Symmetry:
    """A symmetry from lines and shapes, whose names are written as for `spec_of`."""
    return Symmetry(spec_of(**axes), {n.replace("__", "."): s for n, s in shapes.items()})
