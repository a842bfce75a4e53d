"""Small networks and data in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests import nets
from tests.operations.making import generic
from tests.symmetry.builders import seeded


def net(seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """`fc1` to `fc3` with ReLU."""
    return generic(nets.named_mlp, seed, dtype)


def examples(count: int = 40) -> tuple[Tensor, Tensor]:
    """Inputs of `net` and classes."""
    rng = seeded(3)
    return torch.randn(count, 12, generator=rng), torch.randint(0, 5, (count,), generator=rng)


def stored(folder: Path) -> Path:
    """The same as a data file."""
    x, y = examples()
    save_file({"inputs": x, "labels": y}, folder / "data.safetensors")
    return folder / "data.safetensors"
