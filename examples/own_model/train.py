"""Make data, and train two networks of net.py on it that differ in their seed only.

    python examples/own_model/train.py OUT [--stream 128] [--hidden 64] [--epochs 8]

Writes OUT/data.npz, OUT/a.pt and OUT/b.pt, in some seconds. The data: 16 numbers an example, drawn around one
of 64 random points, eight for each of eight classes; 6,000 examples for training and 1,000 to test on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))

from net import make

CLASSES, POINTS, SPREAD = 8, 64, 0.5
TRAIN, TEST = 6000, 1000


def draw(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs [n, 16] and their classes [n]."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(POINTS, 16, generator=rng)
    nearest = torch.randint(POINTS, (TRAIN + TEST,), generator=rng)
    noise = torch.randn(TRAIN + TEST, 16, generator=rng)
    return centres[nearest] + SPREAD * noise, nearest % CLASSES


def train(seed: int, x: Tensor, y: Tensor, size: tuple[int, int], epochs: int) -> nn.Module:
    """A network of `size` (stream, hidden), whose initialisation and data order come from `seed`."""
    torch.manual_seed(seed)
    net = make(*size)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), 100):
            optimiser.zero_grad()
            functional.cross_entropy(net(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of right answers, from 0 to 1."""
    return float((net(x).argmax(1) == y).float().mean())


def main() -> None:
    """Write the data and both networks."""
    parser = argparse.ArgumentParser(description="Train the two networks of examples/own_model.")
    parser.add_argument("out", type=Path)
    for name, default in (("stream", 128), ("hidden", 64), ("epochs", 8)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the same numbers on every machine with the same PyTorch
    x, y = draw(0)
    parts = {"train": (x[:TRAIN], y[:TRAIN]), "test": (x[TRAIN:], y[TRAIN:])}
    arrays: dict[str, Any] = {f"{part}_inputs": inputs.numpy() for part, (inputs, _) in parts.items()}
    arrays |= {f"{part}_labels": labels.numpy() for part, (_, labels) in parts.items()}
    np.savez(args.out / "data.npz", **arrays)
    for seed, name in enumerate("ab"):
        net = train(seed, *parts["train"], (args.stream, args.hidden), args.epochs)
        torch.save(net.state_dict(), args.out / f"{name}.pt")
        print(f"{args.out / name}.pt: {100 * accuracy(net, *parts['test']):.1f} % of the test set right")


if __name__ == "__main__":
    main()
