"""Statistics repaired on dreams: midpoint accuracy beside averaged statistics and those of real images.

    deepalign zoo benchmarks/alignment.zoo.toml --data DATA --out ZOO
    python benchmarks/dreams.py --zoo ZOO --data DATA --network PATH [--pairs 2] [--sets conv long]

Every family with BatchNorm gives its pairs, aligned by the default without data. *closed* is the share of the
gap between averaged statistics and those of 2,000 training images that dreams close: (dreams - averaged) /
(real - averaged) of the test accuracies at the midpoint.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from alignment import PoolEntry, entries
from alignment_methods import Context, dreaming, network_of
from alignment_tables import mean
from torch import Tensor

from deepalign_cli.checkpoint.memory import MemoryCheckpoint
from deepalign_cli.measure.paths import mix
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.saved import load_network
from deepalign_cli.operations.dreaming import Dreamer
from deepalign_cli.operations.run_settings import DREAM, RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.repair import reestimated
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import is_statistic

_REAL = 2000


def dreams_of(context: Context) -> tuple[Tensor, float]:
    """What `--repair dream` runs the networks on, and the seconds that dreaming took."""
    pair = [MemoryCheckpoint(weights, name) for weights, name in ((context.a, "A"), (context.b, "B"))]
    opened, started = network_of(context), time.perf_counter()
    dreamer = Dreamer(pair, RunSettings(data=DREAM), Settings(), lambda: opened, is_asked=True)
    x = torch.cat(list(dreamer.testbed().training.inputs(1000)))
    return x, time.perf_counter() - started


def accuracies(context: Context, network: DeepAlign) -> tuple[float, float, float, float]:
    """With averaged statistics, with those on dreams, with those on real images; and seconds."""
    moved = Acted(context.symmetry, dreaming(network, context), context.b)
    middle = mix(context.a, moved, 0.5)
    x, seconds = dreams_of(context)

    def repaired(images: Tensor) -> Weights:
        return {**middle, **reestimated(context.family.design, middle, lambda: [images])}

    real = repaired(context.examples.train_x[:_REAL])
    return *(_accuracy(context, w) for w in (middle, repaired(x), real)), seconds


@torch.no_grad()
def _accuracy(context: Context, weights: Weights) -> float:
    outputs = context.family.design(weights, context.examples.test_x)
    return float((outputs.argmax(1) == context.examples.test_y).double().mean())


def report(entry: PoolEntry, network: DeepAlign, pairs: int) -> float:
    """Print a line a family; the share of the gap that is closed."""
    rows = [accuracies(entry.context(pair), network) for pair in entry.pairs(pairs)]
    averaged, dreamt, real, seconds = (mean(column) for column in zip(*rows, strict=True))
    closed = (dreamt - averaged) / (real - averaged)
    name = entry.name.removesuffix("-00")
    cells = [f"{value:.3f}" for value in (averaged, dreamt, real)] + [f"{closed:.2f}", f"{seconds:.1f}"]
    print(f"| {name} ({len(rows)}) | {' | '.join(cells)} |", flush=True)
    return closed


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--sets", nargs="+", default=[""])
    arguments = parser.parse_args()
    network = load_network(arguments.network)
    print(
        "| family (pairs) | averaged | dreams | real images | closed | seconds |\n|---|---|---|---|---|---|"
    )
    closed = [
        report(entry, network, arguments.pairs)
        for entry in entries(arguments.zoo, arguments.data, arguments.sets)
        if any(map(is_statistic, entry.family.weights))
    ]
    print(f"\ngeometric mean: {math.exp(mean(math.log(max(c, 1e-3)) for c in closed)):.2f}")


if __name__ == "__main__":
    main()
