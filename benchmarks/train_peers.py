"""Train pairs of MNIST networks for the comparison with other tools.

    python benchmarks/train_peers.py --data mnist.npz --out DIR [--pairs 3] [--nets mlp128 cnn_bn ...]

Trains the networks of `peer_nets.py` on 8,000 training images, judges them on 2,000 test images, and writes
`DIR/NET-SEED.safetensors`; pair p is seeds 2p and 2p + 1. `--data` is an `.npz` with uint8 `train_images`
(n, 28, 28), `test_images` and int64 `train_labels`, `test_labels`. A file that exists is skipped, so a run
that was stopped goes on where it was; the first pair of every network comes before the second of any.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from peer_nets import NETS, Data, build, load_data, loss_accuracy
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

REQUIRED = 0.95


@dataclass(frozen=True)
class Recipe:
    """AdamW, the learning rate falling to zero along a cosine."""

    epochs: int
    lr: float
    weight_decay: float
    batch: int


RECIPES = {
    "mlp128": Recipe(epochs=30, lr=3e-3, weight_decay=0.5, batch=50),
    "mlp512": Recipe(epochs=12, lr=1e-3, weight_decay=0.5, batch=50),
    "cnn_bn": Recipe(epochs=5, lr=2e-3, weight_decay=0.1, batch=100),
    "resnet_bn": Recipe(epochs=6, lr=3e-3, weight_decay=0.1, batch=100),
    "cnn": Recipe(epochs=6, lr=2e-3, weight_decay=0.1, batch=100),
    "resnet32_bn": Recipe(epochs=6, lr=3e-3, weight_decay=0.5, batch=100),
}


def train(name: str, seed: int, data: Data, recipe: Recipe) -> nn.Module:
    """Network `name`; its initialisation and the order of its data come from `seed`."""
    torch.manual_seed(seed)
    net = build(name)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * math.ceil(len(data.train_x) / recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    net.train()
    for epoch in range(1, recipe.epochs + 1):
        start, total = time.perf_counter(), 0.0
        for rows in torch.split(torch.randperm(len(data.train_x)), recipe.batch):
            loss = functional.cross_entropy(net(data.train_x[rows]), data.train_y[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item() * len(rows)
        mean, seconds = total / len(data.train_x), time.perf_counter() - start
        print(f"  epoch {epoch:2}/{recipe.epochs}  train loss {mean:.4f}  {seconds:.1f} s", flush=True)
    return net


def save(net: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write to a neighbouring name and rename, so that a file that exists is complete."""
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, partial, metadata)
    partial.replace(path)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Train pairs of MNIST networks to compare tools on.")
    parser.add_argument("--data", type=Path, required=True, help="MNIST as .npz (see the top of this file)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of each network (default 3)")
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS), help="default: all")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1: reproducible)")
    return parser.parse_args()


def train_one(name: str, seed: int, data: Data, path: Path) -> None:
    """Train one network, judge it, and write it."""
    recipe, start = RECIPES[name], time.perf_counter()
    print(f"{name} seed {seed}", flush=True)
    net = train(name, seed, data, recipe)
    loss, accuracy = loss_accuracy(net, data.test_x, data.test_y)
    if accuracy < REQUIRED:
        raise SystemExit(f"{name} seed {seed}: test accuracy {accuracy:.4f} is below {REQUIRED}")
    metadata = {
        "format": "pt",
        "activation": "relu",
        "net": name,
        "made_by": "benchmarks/train_peers.py",
        "data": "MNIST, 8000 training images",
        "recipe": str(recipe),
        "seed": str(seed),
        "test_accuracy": f"{accuracy:.4f}",
    }
    save(net, path, metadata)
    seconds = time.perf_counter() - start
    print(f"{path}  test loss {loss:.4f}  accuracy {accuracy:.4f}  {seconds:.0f} s", flush=True)


def main() -> None:
    """Train every network that is not there yet."""
    args = arguments()
    torch.set_num_threads(args.threads)
    data = load_data(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [(name, 2 * p + side) for p in range(args.pairs) for name in args.nets for side in (0, 1)]
    for name, seed in jobs:
        path = args.out / f"{name}-{seed}.safetensors"
        if path.exists():
            print(f"{path} is there", flush=True)
        else:
            train_one(name, seed, data, path)


if __name__ == "__main__":
    main()
