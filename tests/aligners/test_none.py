from __future__ import annotations

import torch

from deepalign_cli.aligners.alignment import distance
from deepalign_cli.aligners.none import NoAlignment
from tests.aligners.builders import planted
from tests.symmetry.builders import seeded


def test_nothing_moves() -> None:
    symmetry, a, b, _ = planted("mlp")
    found = NoAlignment()(symmetry, a, b, rng=seeded(0))
    assert found.distance_before == found.distance_after == distance(symmetry, a, b) > 0
    assert all(found.element.moved(group) == 0 for group in symmetry.sizes)
    assert all(torch.equal(symmetry.act(found.element, name, w), w) for name, w in b.items())
