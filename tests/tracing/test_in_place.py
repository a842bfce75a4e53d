"""Writing in place, which export makes anew, and other operations that only export shows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deepalign_cli.models.example import Example
from deepalign_cli.tracing.pipeline import trace


def written(change: Callable[[Tensor, Tensor], object]) -> Callable[[Tensor, Tensor], Tensor]:
    def body(a: Tensor, b: Tensor) -> Tensor:
        y = a.clone()
        change(y, b)
        return y

    return body


def empty(a: Tensor, b: Tensor) -> Tensor:
    y = torch.empty_like(a)
    y[:, :4], y[:, 4:] = a[:, :4], b[:, :4]
    return y


USES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "half": written(lambda y, b: y[:, :4].copy_(b[:, 4:])),
    "one": written(lambda y, b: y[:, 2].copy_(b[:, 0])),
    "number": written(lambda y, b: y[:, -1].fill_(0.5)),
    "zero": written(lambda y, b: y[:, -1].zero_()),
    "strided": written(lambda y, b: y[:, ::2].copy_(b[:, :4])),
    "added": written(lambda y, b: y[:, 1:].add_(b[:, :-1])),
    "multiplied": written(lambda y, b: y.mul_(b)),
    "masked": written(lambda y, b: y.masked_fill_(b > 0, 0.0)),
    "broadcast": written(lambda y, b: y.copy_(b[:, :1])),
    "by index": written(lambda y, b: y.index_copy_(1, torch.arange(8).flip(0), b)),
    "view": written(lambda y, b: y.view(3, 2, 4)[:, 0].add_(b.view(3, 4, 2)[:, :, 1])),
    "empty": empty,
    "circular": lambda a, b: F.pad(a[:, None], (2, 3), mode="circular")[:, 0],
    "with indices": lambda a, b: (
        F.max_pool1d(a[:, None], 2, return_indices=True)[1][:, 0].to(a.dtype) + b[:, :4]
    ),
    "no batch": lambda a, b: F.scaled_dot_product_attention(
        a, b, a, attn_mask=torch.ones(3, 3).tril().bool()
    ),
}


class Net(nn.Module):
    def __init__(self, body: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.body = nn.Linear(6, 8), nn.Linear(6, 8), body
        self.head = nn.Linear(body(torch.randn(3, 8), torch.randn(3, 8)).shape[1], 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.a(x), self.b(x)))


class All(nn.Module):
    """Every use, side by side: one export for all."""

    def __init__(self) -> None:
        super().__init__()
        self.uses = nn.ModuleDict({f"in {name}": Net(body) for name, body in USES.items()})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(net(x) for net in self.uses.values())


def test_nothing_fails_the_check() -> None:
    torch.manual_seed(0)
    traced = trace(All(), Example((torch.randn(3, 6),)))
    failed = [places for reason, places in traced.stays.items() if "failed the check" in reason]
    assert not failed  # the names of tensors say which use
    assert {name.split(".")[1] for name in traced.spec.axes} >= {"in multiplied", "in view", "in half"}
