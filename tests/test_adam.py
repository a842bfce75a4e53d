"""Adam, beside torch's."""

from __future__ import annotations

import torch
from torch import Tensor

from deepalign_cli.adam import Adam


def bowl(x: Tensor, y: Tensor) -> Tensor:
    return ((x - 2) ** 4).sum() + (x[:, :1] * x[:, 1:]).sum() + (y - x.sum()).square()


def test_it_takes_the_steps_of_torchs() -> None:
    draw = torch.Generator().manual_seed(0)
    ours = [torch.randn(3, 2, generator=draw).requires_grad_(), torch.zeros(()).requires_grad_()]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    adam, other = Adam(ours), torch.optim.Adam(theirs, lr=0.05)

    for _ in range(20):
        adam.step(torch.autograd.grad(bowl(*ours), ours), 0.05)
        other.zero_grad()
        torch.autograd.backward(bowl(*theirs))
        other.step()

    for mine, torchs in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, torchs, rtol=0, atol=1e-6)
