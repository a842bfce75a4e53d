"""What a task vector is worth on another network: accuracy on its task, naive and aligned.

    python benchmarks/transport.py --data mnist.npz

Two networks learn MNIST from different seeds: base A and base B. A goes on to learn a task with the same
classes: digits turned by 90 degrees, black on white in place of white on black, or with their upper and lower
halves exchanged. `deepalign transport` adds what A has learned
there to B, which never sees the task. Each row has, over pairs of seeds, the mean accuracy on 10,000 test
examples of the task (and of MNIST itself) at the scale that is best on 1,000 training examples of the task,
and at scale 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import deepalign_cli as da

SCALES = (0.5, 1.0, 1.5, 2.0, 2.5)
TASKS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "turned by 90 degrees": lambda x: x.rot90(1, (2, 3)),
    "inverted": lambda x: -x,
    "halves exchanged": lambda x: x.roll(14, 2),
}
Pair = tuple[Tensor, Tensor]


def mlp() -> nn.Module:
    """784-256-256-10, ReLU."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def cnn() -> nn.Module:
    """Two convolutions of 32 and 64 channels, pooled, and a hidden layer."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4),
        nn.Flatten(), nn.Linear(64 * 9, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def trained(net: nn.Module, data: Pair, epochs: int, seed: int, rate: float = 1e-3) -> nn.Module:
    """The network after some epochs of Adam, its rate falling to 0."""
    rng, (x, y) = torch.Generator().manual_seed(seed), data
    steps = epochs * (len(x) // 128)
    optimiser = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: 1 - i / steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=rng).split(128)[: len(x) // 128]:
            optimiser.zero_grad()
            functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def copied(make: Callable[[], nn.Module], weights: Mapping[str, Tensor]) -> nn.Module:
    """A network of its own with these weights."""
    net = make()
    net.load_state_dict(dict(weights))
    return net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, data: Pair) -> float:
    """The share of examples that are classified as labelled, in percent."""
    right = [
        (net(x).argmax(1) == y).sum() for x, y in zip(data[0].split(500), data[1].split(500), strict=True)
    ]
    return 100 * float(sum(right)) / len(data[1])


def rows(path: Path, kind: str, pairs: int, count: int) -> Iterator[list[str]]:
    """One row for each task and way to carry its vector over."""
    make, (train, test) = {"mlp": mlp, "cnn": cnn}[kind], read(path, count)
    methods = {"none": None, "weights": None, "deepalign": None, "activations": train[0][:2000]}
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for pair in range(pairs):
        bases = []
        for seed in (2 * pair, 2 * pair + 1):
            torch.manual_seed(seed)
            bases.append(trained(make(), train, 4, seed))
        a, b = bases
        for task, change in TASKS.items():
            own, goal, pick = ((change(x), y) for x, y in (train, test, (train[0][:1000], train[1][:1000])))
            tuned = trained(copied(make, a.state_dict()), own, 2, 100 + pair, 3e-4)
            for name, net in (("base B", b), ("tuned A", tuned)):
                score = accuracy(net, goal)
                found.setdefault((task, name), []).append((score, accuracy(net, test), score, 0.0))
            for method, data in methods.items():
                carried = {
                    s: copied(make, da.transport(a, tuned, b, scale=s, method=method, data=data))
                    for s in SCALES
                }
                best = max(SCALES, key=lambda s: accuracy(carried[s], pick))
                figures = (accuracy(carried[best], goal), accuracy(carried[best], test))
                one = accuracy(carried[1.0], goal)
                found.setdefault((task, method), []).append((*figures, one, best))
    for (task, method), figures in found.items():
        best, kept, one, scale = (float(np.mean(column)) for column in zip(*figures, strict=True))
        spread = np.std([f[0] for f in figures])
        cells = [f"{best:.1f} ± {spread:.1f}", f"{scale:.2f}" if scale else "-", f"{one:.1f}", f"{kept:.1f}"]
        yield [kind, task, method, *cells]


def read(path: Path, count: int) -> tuple[Pair, Pair]:
    """Training examples, and test examples: 28 by 28 pixels from -1 to 1."""
    with np.load(path) as file:
        arrays = [
            (torch.from_numpy(file[f"{s}_images"]).float(), torch.from_numpy(file[f"{s}_labels"]).long())
            for s in ("train", "test")
        ]
    scaled = [(x.reshape(-1, 1, 28, 28) / 127.5 - 1, y) for x, y in arrays]
    return (scaled[0][0][:count], scaled[0][1][:count]), scaled[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", default=["mlp", "cnn"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="training examples")
    asked = parser.parse_args()
    heads = ["network", "task", "task vector", "accuracy", "scale", "at scale 1", "on MNIST"]
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads))
    for kind in asked.kinds:
        started = time.perf_counter()
        for row in rows(asked.data, kind, asked.pairs, asked.count):
            print("|", " | ".join(row), "|", flush=True)
        print(f"{kind}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
