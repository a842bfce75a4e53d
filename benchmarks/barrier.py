"""The cost of barrier curves beside that of the bare matrix products they need.

    python benchmarks/barrier.py [--images 10000] [--points 25] [--repeats 3]

Three paths of a 784-512-512-512-10 pair at all points, on random images; only time is measured. `products`
multiplies the same batches with the same shapes and does nothing else. `plain loop` is what anyone would
write: mix the weights, run all images, cross-entropy. `vmap` runs all points of one path at once. Every row
is the best of some repeats, in one process; ratios are to the products. Smaller networks follow.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.data.dataset import Data, Part
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.measure.losses import CrossEntropy
from deepalign_cli.measure.paths import NetworkPath, alphas_of, measure, mix
from deepalign_cli.models.designs.mlp import MLP

PATHS = 3
SIZES: Sequence[tuple[int, ...]] = ((784, 512, 512, 512, 10), (784, 128, 128, 128, 10), (784, 32, 32, 10))
BATCH = 1000


class Work:
    """One architecture with a reference, three moved networks, and images."""

    def __init__(self, sizes: tuple[int, ...], images: int, points: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self.sizes, self.design, self.alphas = sizes, MLP(sizes), alphas_of(points)
        self.nets = [self.design.init(rng) for _ in range(PATHS + 1)]
        self.x = torch.randn(images, sizes[0], generator=rng)
        self.y = torch.randint(sizes[-1], (images,), generator=rng)

    def products(self) -> None:
        """The matrix products alone."""
        for _ in range(PATHS * len(self.alphas)):
            for x in self.x.split(BATCH):
                for i in range(1, len(self.sizes)):
                    x = x @ self.nets[0][f"fc{i}.weight"].T

    def curves(self) -> list[tuple[float, ...]]:
        """What `deepalign barrier` runs."""
        part = Part(self.x, self.y)
        data = Data("random", "", {"": part}, torch.arange(len(self.x)), Preparation())
        paths = [NetworkPath(str(i), net) for i, net in enumerate(self.nets[1:])]
        found = measure(self.design, self.nets[0], paths, data, CrossEntropy(), self.alphas, BATCH)
        return [curve.losses for curve in found]

    def plain(self) -> list[tuple[float, ...]]:
        """A loop over methods and points, all images at once."""
        return [
            tuple(
                float(functional.cross_entropy(self.design(mix(self.nets[0], net, alpha), self.x), self.y))
                for alpha in self.alphas
            )
            for net in self.nets[1:]
        ]

    def vmapped(self) -> list[tuple[float, ...]]:
        """All points of one path at once."""
        made = []
        for net in self.nets[1:]:
            mixed = [mix(self.nets[0], net, alpha) for alpha in self.alphas]
            stacked = {name: torch.stack([one[name] for one in mixed]) for name in net}
            total = torch.zeros(len(self.alphas))
            for x, y in zip(self.x.split(BATCH), self.y.split(BATCH), strict=True):
                total += torch.func.vmap(self._sum, in_dims=(0, None, None))(stacked, x, y)
            made.append(tuple((total / len(self.x)).tolist()))
        return made

    def _sum(self, weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.design(weights, x), y, reduction="sum")


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The best of some runs."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"{PATHS} paths, {arguments.points} points, {arguments.images} images, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"{'network':>24} {'products':>10} {'curves':>14} {'plain loop':>14} {'vmap':>14}")
    for sizes in SIZES:
        work = Work(sizes, arguments.images, arguments.points)
        for first, other in ((work.curves(), work.plain()),):
            apart = max(
                abs(a - b) for x, y in zip(first, other, strict=True) for a, b in zip(x, y, strict=True)
            )
            assert apart < 1e-5, f"the losses differ by {apart}"
        parts = work.products, work.curves, work.plain, work.vmapped
        bare, *others = (seconds(part, arguments.repeats) for part in parts)
        shown = "".join(f" {value:8.2f} {value / bare:4.2f}x" for value in others)
        print(f"{'-'.join(map(str, sizes)):>24} {bare:9.2f}s{shown}")


if __name__ == "__main__":
    main()
