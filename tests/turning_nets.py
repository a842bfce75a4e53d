"""Small transformers whose streams and heads may turn, or may not, each for one reason."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

DIM, VOCAB, HEADS, INNER = 8, 11, 2, 4

# The spec of PreNorm, whose stream and heads turn.
PRENORM = """
[kinds]
"attn.qk" = "orthogonal"
"attn.vo" = "orthogonal"
stream = "orthogonal"
[gains]
"block.n1.weight" = ["block.attn.q.weight", "block.attn.k.weight", "block.attn.v.weight"]
"block.n2.weight" = ["block.up.weight"]
"norm.weight" = ["head.weight"]
[axes]
"embed.weight" = "11 stream"
"block.attn.q.weight" = "attn.heads*attn.qk stream"
"block.attn.q.bias" = "attn.heads*attn.qk"
"block.attn.k.weight" = "attn.heads*attn.qk stream"
"block.attn.k.bias" = "attn.heads*attn.qk"
"block.attn.v.weight" = "attn.heads*attn.vo stream"
"block.attn.v.bias" = "attn.heads*attn.vo"
"block.attn.o.weight" = "stream attn.heads*attn.vo"
"block.attn.o.bias" = "stream"
"block.up.weight" = "hidden stream"
"block.up.bias" = "hidden"
"block.down.weight" = "stream hidden"
"block.down.bias" = "stream"
"head.weight" = "11 stream"
[sizes]
"attn.heads" = 2
"""


class Rms(nn.Module):
    """RMSNorm, written out."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5))


class OnePlus(Rms):
    """The same with a gain of one and what is stored."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * (1.0 + self.weight.double().to(x))


class Attention(nn.Module):
    """Causal attention; of fewer keys and values than queries, with rotary positions or norms, as asked.

    Positions turn the first `part` dimensions, in halves or, with `neighbours`, two that stand together.
    """

    def __init__(
        self, *, dim: int = DIM, heads: int = HEADS, kv: int | None = None, inner: int = INNER,
        rotary: bool = False, part: int | None = None, neighbours: bool = False, qk_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.kv, self.inner, self.rotary = heads, kv or heads, inner, rotary
        self.part, self.turns = part or inner, rotated_neighbours if neighbours else rotated
        self.q = nn.Linear(dim, heads * inner)
        self.k = nn.Linear(dim, self.kv * inner)
        self.v = nn.Linear(dim, self.kv * inner)
        self.o = nn.Linear(heads * inner, dim)
        if qk_norm:
            self.q_norm, self.k_norm = Rms(inner), Rms(inner)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (
            layer(x).reshape(b, t, n, self.inner).transpose(1, 2)
            for layer, n in ((self.q, self.heads), (self.k, self.kv), (self.v, self.kv))
        )
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary:
            n = self.part
            q, k = (torch.cat([self.turns(y[..., :n]), y[..., n:]], -1) for y in (q, k))
        if self.kv != self.heads:
            k, v = (y.repeat_interleave(self.heads // self.kv, dim=1) for y in (k, v))
        seen = torch.tril(torch.ones(t, t, dtype=torch.bool))
        scores = (q @ k.transpose(2, 3) / self.inner**0.5).masked_fill(~seen, float("-inf"))
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, -1))


def rotated(x: Tensor) -> Tensor:
    """Rotary positions, in the order of halves."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[2], dtype=x.dtype)[:, None] * 0.5 ** torch.arange(half, dtype=x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


def rotated_neighbours(x: Tensor) -> Tensor:
    """Rotary positions, in the order of neighbours."""
    halves = rotated(torch.cat([x[..., 0::2], x[..., 1::2]], -1))
    return torch.stack(halves.chunk(2, -1), -1).flatten(-2)


class Block(nn.Module):
    """Norm, attention, norm, a hidden layer: each added to the stream."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.LayerNorm, dim: int = DIM, **more: int) -> None:
        super().__init__()
        self.n1, self.attn, self.n2 = norm(dim), Attention(dim=dim, **more), norm(dim)  # type: ignore[arg-type]
        self.up, self.down = nn.Linear(dim, 6), nn.Linear(6, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.n1(x))
        return x + self.down(torch.nn.functional.gelu(self.up(self.n2(x))))


class PreNorm(nn.Module):
    """Tokens in, logits out: an embedding, one block, a last norm and the head."""

    def __init__(
        self, norm: Callable[[int], nn.Module] = nn.LayerNorm, *, dim: int = DIM, tied: bool = False,
        **more: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(VOCAB, dim)
        self.block = Block(norm, dim, **more)
        self.norm, self.head = norm(dim), nn.Linear(dim, VOCAB, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.block(self.embed(tokens))))  # type: ignore[no-any-return]


class PostNorm(PreNorm):
    """The same, but the norms stand on the stream itself."""

    def forward(self, tokens: Tensor) -> Tensor:
        x, block = self.embed(tokens), self.block
        x = block.n1(x + block.attn(x))
        return self.head(block.n2(x + block.down(block.up(x).relu())))  # type: ignore[no-any-return]


class ReturnsNormed(PreNorm):
    """The same, which returns what its head reads, too."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x = self.norm(self.block(self.embed(tokens)))
        return self.head(x), x


class LayerScale(PreNorm):
    """The same with a factor for each unit of a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(DIM) + 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.block(self.embed(tokens))
        more = self.block.down(self.block.up(self.block.n2(x)).relu())
        return self.head(self.norm(x + self.gamma * more))  # type: ignore[no-any-return]


class SharedReader(PreNorm):
    """The same with two norms before one layer."""

    def forward(self, tokens: Tensor) -> Tensor:
        x, block = self.embed(tokens), self.block
        x = x + block.down(block.up(block.n1(x)).relu())
        x = x + block.down(block.up(block.n2(x)).relu())
        return self.head(self.norm(x))  # type: ignore[no-any-return]


class GainTwice(PreNorm):
    """The same with one norm at two places."""

    def forward(self, tokens: Tensor) -> Tensor:
        x, block = self.embed(tokens), self.block
        x = x + block.attn(block.n1(x))
        x = x + block.down(block.up(block.n1(x)).relu())
        return self.head(self.norm(x))  # type: ignore[no-any-return]


class Fused(nn.Module):
    """Attention whose queries, keys and values are one weight, one after the other or head by head."""

    def __init__(
        self, *, by_head: bool = False, transposed: bool = False, rotary: int = 0, heads: int = HEADS
    ) -> None:
        super().__init__()
        self.by_head, self.transposed, self.rotary, self.heads = by_head, transposed, rotary, heads
        self.w = nn.Parameter(0.3 * torch.randn((DIM, 3 * DIM) if transposed else (3 * DIM, DIM)))
        self.b, self.o = nn.Parameter(torch.randn(3 * DIM)), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        rows = x.reshape(-1, DIM)
        if self.transposed:
            y = torch.addmm(self.b, rows, self.w)
        else:
            y = nn.functional.linear(rows, self.w, self.b)
        if self.by_head:
            q, k, v = y.reshape(b, t, self.heads, -1).transpose(1, 2).chunk(3, -1)
        else:
            parts = y.reshape(b, t, 3 * DIM).split(DIM, -1)
            q, k, v = (part.reshape(b, t, self.heads, -1).transpose(1, 2) for part in parts)
        if n := self.rotary:
            q, k = (torch.cat([rotated(y[..., :n]), y[..., n:]], -1) for y in (q, k))
        seen = (q @ k.transpose(2, 3) / 2).softmax(-1) @ v
        return self.o(seen.transpose(1, 2).reshape(b, t, DIM))  # type: ignore[no-any-return]


class WithFused(PreNorm):
    """The same with such attention."""

    def __init__(self, **how: int) -> None:
        super().__init__()
        self.block.attn = Fused(**how)  # type: ignore[assignment, arg-type]


class SquareReader(PreNorm):
    """The same with a layer that reads the stream behind a norm and writes into it."""

    def __init__(self) -> None:
        super().__init__(Rms)
        self.square = nn.Linear(DIM, DIM)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.block(self.embed(tokens))
        return self.head(self.norm(x + self.square(self.block.n1(x))))  # type: ignore[no-any-return]


def tokens(seed: int = 0, count: int = 3, length: int = 5) -> Tensor:
    """A batch of what they read."""
    return torch.randint(0, VOCAB, (count, length), generator=torch.Generator().manual_seed(seed))


def shaken_(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with all weights random, gains and biases too, in evaluation mode."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in module.parameters():
            w.add_(0.3 * torch.randn(w.shape, generator=rng, dtype=torch.float64).to(w))
    return module.eval()
