from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from deepalign_cli.symmetry.acted import Acted
from tests.symmetry.builders import case, seeded


class Watched(Mapping[str, Tensor]):
    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights, self.read = weights, list[str]()

    def __getitem__(self, name: str) -> Tensor:
        self.read.append(name)
        return self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def test_a_view_is_the_acted_network_read_tensor_by_tensor() -> None:
    symmetry, w = case("mlp_batchnorm")
    g, watched = symmetry.random(seeded(0)), Watched(w)
    view = Acted(symmetry, g, watched)
    watched.read.clear()  # the type checker of the tests looks at an item
    assert list(view) == list(w)
    assert len(view) == len(w)
    assert watched.read == []
    assert torch.equal(view["3.weight"], symmetry.act(g, "3.weight", w["3.weight"]))
    assert watched.read == ["3.weight"]
    assert view["1.num_batches_tracked"] is w["1.num_batches_tracked"]
