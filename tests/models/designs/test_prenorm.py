from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.prenorm import PreNorm, rotated
from deepalign_cli.models.designs.transformer import Transformer
from deepalign_cli.train.known import symmetry_of
from tests.models.designs.builders import inputs_of, same_outputs, weights_of
from tests.symmetry.builders import seeded


class Attention(nn.Module):
    """PyTorch's own attention, with rotary positions as products of complex numbers."""

    def __init__(self, design: PreNorm, causal: bool) -> None:
        super().__init__()
        self.design, self.causal = design, causal
        width, rows = design.width, design.width + 2 * design.width // design.queries
        self.in_proj_weight = nn.Parameter(torch.empty(rows, width))
        if design.bias:
            self.in_proj_bias = nn.Parameter(torch.empty(rows))
        self.out_proj = nn.Linear(width, width, bias=design.bias)

    def forward(self, x: Tensor) -> Tensor:
        design, d = self.design, self.design.width // self.design.heads
        fused = functional.linear(x, self.in_proj_weight, self.in_proj_bias if design.bias else None)
        heads = fused.unflatten(-1, (-1, d)).transpose(1, 2)
        kv = design.heads // design.queries
        q, k, v = heads[:, : -2 * kv], heads[:, -2 * kv : -kv], heads[:, -kv:]
        if design.positions == "rotary":
            q, k = turned(q), turned(k)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=True)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


def turned(x: Tensor) -> Tensor:
    """Pairs (i, i + d/2) as complex numbers times exp(i place 10000^(-2i/d))."""
    places, d = x.shape[-2:]
    numbers = torch.complex(x[..., : d // 2], x[..., d // 2 :])
    angles = torch.outer(torch.arange(places).double(), 10_000.0 ** (-2 * torch.arange(d // 2).double() / d))
    out = numbers * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([out.real, out.imag], -1)


class Layer(nn.Module):
    def __init__(self, design: PreNorm, causal: bool) -> None:
        super().__init__()
        self.self_attn = Attention(design, causal)
        self.norm1, self.norm2 = norm_of(design), norm_of(design)
        self.linear1, self.linear3 = (
            nn.Linear(design.width, design.hidden, design.bias) if kept else None
            for kept in (True, design.feed_forward == "swiglu")
        )
        self.linear2 = nn.Linear(design.hidden, design.width, design.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.norm1(x))
        read = self.norm2(x)
        assert self.linear1 is not None
        hidden = self.linear1(read)
        units = (
            functional.gelu(hidden) if self.linear3 is None else functional.silu(hidden) * self.linear3(read)
        )
        return x + self.linear2(units)


class Whole(nn.Module):
    """The network around the layers: of images or of text."""

    def __init__(self, design: PreNorm) -> None:
        super().__init__()
        causal = isinstance(design, Decoder)
        self.design = design
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(Layer(design, causal) for _ in range(design.layers))
        self.norm = norm_of(design)
        if isinstance(design, Decoder):
            places = design.context
            self.embed: nn.Module = nn.Embedding(design.tokens, design.width)
            self.head = nn.Linear(design.width, design.tokens, bias=False)
        elif isinstance(design, Transformer):
            places = (design.size // design.patch) ** 2
            self.embed = nn.Linear(design.colours * design.patch**2, design.width)
            self.head = nn.Linear(design.width, design.classes)
        if design.positions == "learned":
            self.pos = nn.Parameter(torch.empty(places, design.width))

    def forward(self, x: Tensor) -> Tensor:
        is_text = isinstance(self.design, Decoder)
        if isinstance(self.design, Transformer):
            x = functional.unfold(x, self.design.patch, stride=self.design.patch).transpose(1, 2)
        x = self.embed(x)
        if self.design.positions == "learned":
            x = x + self.pos
        for layer in self.encoder.layers:  # type: ignore[union-attr]
            x = layer(x)
        x = self.norm(x)
        out: Tensor = self.head(x if is_text else x.mean(1))
        return out


def norm_of(design: PreNorm) -> nn.Module:
    return nn.LayerNorm(design.width) if design.norm == "layer" else nn.RMSNorm(design.width, eps=1e-6)


STYLES = [
    {"norm": norm, "positions": positions, "feed_forward": feed, "queries": queries, "bias": bias}
    for norm, positions, feed, (queries, bias) in product(
        ("layer", "rms"), ("learned", "rotary"), ("gelu", "swiglu"), ((1, True), (2, False))
    )
]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: "-".join(map(str, style.values())))
@pytest.mark.parametrize("text", [False, True])
def test_every_style_is_what_pytorchs_layers_compute(style: dict[str, str], text: bool) -> None:
    design: PreNorm = (
        Decoder(16, 4, 20, context=7, tokens=9, **style) if text else Transformer(16, 4, 20, **style)  # type: ignore[arg-type]
    )
    assert same_outputs(design, Whole(design))  # type: ignore[arg-type]


def test_no_place_reads_a_later_one() -> None:
    design = Decoder(16, 4, 20, context=7, tokens=9, positions="rotary")
    weights, x = weights_of(design), inputs_of(design)
    changed = x.clone()
    changed[:, 4] = (x[:, 4] + 1) % 9
    before, after = design(weights, x), design(weights, changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.isclose(before[:, 4:], after[:, 4:]).all(-1).any()


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    q, k = (
        torch.randn(1, 1, 1, 8, generator=seeded(s), dtype=torch.float64).expand(1, 1, 12, 8) for s in (1, 2)
    )
    scores = (rotated(q) @ rotated(k).transpose(-1, -2))[0, 0]
    for distance in range(-5, 6):
        line = scores.diagonal(distance)
        assert torch.allclose(line, line[0].expand_as(line), atol=1e-12)
    assert float(scores[0].std()) > 0.1


def test_rotary_networks_read_text_of_any_length() -> None:
    design = Decoder(16, 4, 20, context=7, tokens=9, positions="rotary")
    x = torch.randint(9, (2, 30), generator=seeded(3))
    assert design(weights_of(design), x).shape == (2, 30, 9)


@pytest.mark.parametrize(
    ("design", "groups"),
    [
        (Transformer(16, 2, 24, layers=1), {"stream": 16, "heads": 2, "ffn": 24}),
        (Transformer(16, 2, 24, layers=1, norm="rms", bias=False), {"stream": 16, "heads": 2, "ffn": 24}),
        (Decoder(16, 2, 24, layers=1, bias=False), {"stream": 16, "heads": 2, "ffn": 24}),
        (
            Decoder(16, 2, 24, layers=1, positions="rotary"),
            {"stream": 16, "heads": 2, "vo": 8, "linear1": 24},
        ),
        (
            Decoder(16, 4, 24, layers=1, feed_forward="swiglu", queries=2),
            {"stream": 16, "heads": 2, "queries": 2, "qk": 4, "vo": 4, "linear1": 24},
        ),
    ],
)
def test_names_or_a_trace_tell_what_moves(design: PreNorm, groups: dict[str, int]) -> None:
    symmetry = symmetry_of(design, design.init(seeded(0)))  # type: ignore[attr-defined, arg-type]
    assert {name.rpartition(".")[2]: size for name, size in symmetry.sizes.items()} == groups


def test_its_activation_is_that_of_its_feed_forward_units() -> None:
    assert Transformer(16, 2, 24).activation == "gelu"
    assert Transformer(16, 2, 24, feed_forward="swiglu").activation == "silu"
