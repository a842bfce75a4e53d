"""Pairs of networks whose units turn: planted, with noise, and not at all alike."""

from __future__ import annotations

import torch
from torch import Tensor

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.aligners.builders import jittered
from tests.symmetry.builders import seeded

# Two blocks of a transformer without biases: a stream, heads of two kinds, a hidden layer.
TEXT = """
[kinds]
s = "orthogonal"
qk = "rotary"
vo = "orthogonal"
[gains]
n1 = ["shift", "qkv"]
n2 = ["up", "head"]
[axes]
embed = "13 s"
shift = "s"
qkv = "heads*(qk|qk|2|vo) s"
gate = "heads 9"
o = "s heads*vo"
up = "h s"
down = "s h"
head = "9 s"
"""
SHAPES = {
    "embed": (13, 6), "n1": (6,), "shift": (6,), "qkv": (3 * 13, 6), "gate": (3, 9), "o": (6, 9), "n2": (6,),
    "up": (8, 6), "down": (6, 8), "head": (9, 6),
}  # fmt: skip
SYMMETRY = Symmetry(parse_spec(TEXT), SHAPES)


def drawn(seed: int) -> dict[str, Tensor]:
    """Weights of the spec's shapes; the gains lie around one."""
    rng = seeded(seed)
    weights = {n: torch.randn(s, generator=rng, dtype=torch.float64) for n, s in SHAPES.items()}
    return weights | {n: 1 + 0.3 * weights[n].tanh() for n in ("n1", "n2")}


def between(a: dict[str, Tensor], b: dict[str, Tensor], g: Element) -> Element:
    """The element that acts as `g` from the gains of `b` to those of `a`."""
    return SYMMETRY.without_gains(a).inverse() @ g @ SYMMETRY.without_gains(b)


def turned_pair(noise: float = 0.0, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor], Element]:
    """A network, its image under a random element with gains of its own and noise, and what undoes that."""
    a = drawn(seed)
    g = between(drawn(seed + 50), a, SYMMETRY.random(seeded(seed + 1)))
    b = SYMMETRY.apply(g, a)
    return a, {n: jittered(w, noise, i) for i, (n, w) in enumerate(b.items())}, g.inverse()
