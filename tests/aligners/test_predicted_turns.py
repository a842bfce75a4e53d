"""The prediction of streams: it turns with the network, and finds what is planted."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.deepalign import LearnedAligner, learned_aligner
from deepalign_cli.aligners.predicted_turns import predicted_streams
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.aligners.builders import jittered
from tests.symmetry.builders import seeded

# Two blocks without gains, which are taken in before anything is predicted; widths that no training had.
TEXT = """
[kinds]
s = "{kind}"
vo = "orthogonal"
[axes]
embed = "29 s"
pos = "1 5 s"
v = "heads*vo s"
o = "s heads*vo"
up1 = "h1 s"
bias1 = "h1"
down1 = "s h1"
up2 = "h2 s"
gate2 = "h2 s"
down2 = "s h2"
last = "s"
head = "11 s"
[sizes]
heads = 3
"""
SHAPES = {
    "embed": (29, 14), "pos": (1, 5, 14), "v": (6, 14), "o": (14, 6), "up1": (23, 14), "bias1": (23,),
    "down1": (14, 23), "up2": (17, 14), "gate2": (17, 14), "down2": (14, 17), "last": (14,), "head": (11, 14),
}  # fmt: skip
Net = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def aligner() -> LearnedAligner:
    return learned_aligner(DEFAULT_NETWORK, "auto", 2, None)


def symmetry(kind: str = "orthogonal") -> Symmetry:
    return Symmetry(parse_spec(TEXT.format(kind=kind)), SHAPES)


def drawn(seed: int) -> Net:
    rng = seeded(seed)
    return {n: torch.randn(s, generator=rng, dtype=torch.float64) for n, s in SHAPES.items()}


def predicted(aligner: LearnedAligner, a: Net, b: Net, of: Symmetry) -> Tensor:
    return predicted_streams(aligner, of, a, b, seeded(3))["s"].matrix


@pytest.mark.parametrize("kind", ["orthogonal", "centred orthogonal"])
def test_it_turns_with_either_network(aligner: LearnedAligner, kind: str) -> None:
    of, a, b = symmetry(kind), drawn(0), drawn(1)
    g, h = of.random(seeded(4)), of.random(seeded(5))
    first = predicted(aligner, a, b, of)
    second = predicted(aligner, of.apply(h, a), of.apply(g, b), of)
    wanted = h.turn["s"].matrix @ first @ g.turn["s"].matrix.mT
    assert float((first - torch.eye(14)).abs().max()) > 0.1
    assert torch.allclose(second, wanted, atol=1e-8)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_what_is_planted_is_found_to_the_noise(aligner: LearnedAligner, noise: float) -> None:
    of, a = symmetry(), drawn(0)
    g = of.random(seeded(6))
    b = {n: jittered(w, noise, i) for i, (n, w) in enumerate(of.apply(g, a).items())}
    found = predicted(aligner, a, b, of)
    assert float((found - g.inverse().turn["s"].matrix).abs().max()) <= 1e-4 + 2 * noise


def test_hidden_units_count_beside_the_labels(aligner: LearnedAligner) -> None:
    """Of few labels no rotation of all units is known: the units of hidden layers tell the rest."""
    of, a = symmetry(), drawn(0)
    few = {n: w if n not in ("embed", "pos", "last") else 1e-6 * w for n, w in a.items()}
    g = of.random(seeded(6))
    found = predicted(aligner, few, of.apply(g, few), of)
    assert float((found - g.inverse().turn["s"].matrix).abs().max()) < 1e-3


def test_without_streams_nothing_is_predicted(aligner: LearnedAligner) -> None:
    of = Symmetry(parse_spec('[axes]\nw = "h 3"\nv = "2 h"'), {"w": (4, 3), "v": (2, 4)})
    pair = ({"w": torch.randn(4, 3), "v": torch.randn(2, 4)} for _ in range(2))
    assert predicted_streams(aligner, of, *pair, seeded(0)) == {}
