"""How long a prediction and the default take against weight matching: processor time, on one thread.

On freshly initialised pairs of large MLPs, or on pairs of a zoo (`wide.zoo.toml`): trained networks take
weight matching longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from alignment_methods import SKETCHES

from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.assignment import assign
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.train.pool import graph_of
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.zoo_files import Family

_SIZES = ((784, 512, 512, 512, 10), (784, 1024, 1024, 1024, 10), (784, 2048, 2048, 10))
_PAIRS = 3

Pair = tuple[str, Symmetry, Weights, Weights]


def report_speed(network: DeepAlign, pairs: Iterable[Pair] | None = None) -> list[dict[str, Any]]:
    """Print a line a pair: seconds of encoding, product and rounding, of the default, of weight matching."""
    names = ["predict", "round", "default", "weights", "ratio"]
    print(f"{'':26} {'sketches':>8} {' '.join(f'{name:>8}' for name in names)}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one_pair(network, random_pair((784, 64, 10), 0))  # the first run pays for what is loaded late
    rows = []
    for pair in random_pairs() if pairs is None else pairs:
        for row in one_pair(network, pair):
            print(
                f"{pair[0]:26} {row['sketches']:8d} {' '.join(f'{row[key]:8.3f}' for key in names)}",
                flush=True,
            )
            rows.append(row)
    torch.set_num_threads(threads)
    return rows


def random_pairs() -> Iterator[Pair]:
    """Three random pairs of each size."""
    for sizes in _SIZES:
        for seed in range(_PAIRS):
            yield random_pair(sizes, seed)


def random_pair(sizes: tuple[int, ...], seed: int) -> Pair:
    """Two networks as they are initialised."""
    design, rng = MLP(sizes), torch.Generator().manual_seed(seed)
    a, b = design.init(rng), design.init(rng)
    stacked = {n: torch.stack([w, b[n]]) for n, w in a.items()}
    none = torch.zeros(2)
    graph = graph_of(Family(design, Task("none"), stacked, none, none.long()))
    return "-".join(map(str, sizes)), graph.symmetry, a, b


def one_pair(network: DeepAlign, pair: Pair) -> list[dict[str, Any]]:
    """The seconds of one pair, with one sketch and with several; `ratio` is predicting to matching."""
    name, symmetry, a, b = pair
    weights, _ = timed(lambda: WeightMatching()(symmetry, a, b, rng=seeded()))
    rows = []
    for sketches in (1, SKETCHES):
        own = LearnedAligner(network, sketches=sketches)
        predict, found = timed(lambda own=own: dict(own.similarity(symmetry, a, b, seeded())))
        rounding, _ = timed(lambda s=found: {g: assign(matrix) for g, matrix in s.items()})
        whole = LearnedAligner(network, sketches=sketches)
        default, _ = timed(lambda whole=whole: whole(symmetry, a, b, rng=seeded()))
        rows.append(
            {
                "pair": name, "sketches": sketches, "predict": predict, "round": rounding,
                "default": default, "weights": weights, "ratio": predict / weights,
            }
        )  # fmt: skip
    return rows


def seeded() -> torch.Generator:
    """Random numbers that are the same every time."""
    return torch.Generator().manual_seed(0)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that the processor took for a call, and its result."""
    started = time.process_time()
    found = run()
    return time.process_time() - started, found
