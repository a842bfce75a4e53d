"""Linear maps behind a LayerNorm, as maps of the normed state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepalign_cli.network.folded import FoldedLinear, behind, centred, normed
from tests.symmetry.builders import seeded


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(2), dtype=torch.float64)


def test_a_map_behind_a_norm_is_one_of_the_normed_state() -> None:
    norm, x = nn.LayerNorm(6).double(), drawn(1, 5, 2, 6) + 3
    norm.load_state_dict({"weight": drawn(6), "bias": drawn(6) + 1})
    map_in, map_out = nn.Linear(4, 6).double(), nn.Linear(6, 3).double()
    weight, bias = centred(map_in.weight, map_in.bias)
    state = normed(nn.functional.linear(x[..., :4], weight, bias))
    found = behind(norm, map_out.weight, map_out.bias)(state.normed)
    assert torch.allclose(found, map_out(norm(map_in(x[..., :4]))), rtol=0, atol=1e-12)
    assert float(state.h.detach().mean(-1).abs().max()) < 1e-12


def test_a_state_of_zeros_is_finite() -> None:
    assert not normed(torch.zeros(1, 2, 1, 4)).normed.any()


def test_a_product_is_added_in_place_and_without_the_bias() -> None:
    layer, base, x = FoldedLinear(drawn(6, 3), drawn(3)), drawn(1, 5, 2, 3), drawn(1, 5, 2, 6)
    expected = base + x @ layer.weight
    assert layer.added_to(base, x) is base
    assert torch.allclose(base, expected, rtol=0, atol=1e-12)
