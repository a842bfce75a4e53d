"""How long a prediction takes against weight matching, on freshly initialised pairs of large MLPs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from alignment_methods import SKETCHES

from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.assignment import assign
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.train.pool import graph_of
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.zoo_files import Family

_SIZES = ((784, 512, 512, 512, 10), (784, 1024, 1024, 1024, 10), (784, 2048, 2048, 10))
_PAIRS = 3


def report_speed(network: DeepAlign) -> list[dict[str, Any]]:
    """Print a line a pair: seconds of encoding, product and rounding, and of weight matching."""
    print(f"{'':26} {'sketches':>8} {'predict':>8} {'round':>8} {'sum':>8} {'weights':>8} {'ratio':>6}")
    one_pair(network, (784, 64, 10), 0)  # the first run pays for what is loaded late
    rows = []
    for sizes in _SIZES:
        for seed in range(_PAIRS):
            for row in one_pair(network, sizes, seed):
                cells = [row[key] for key in ("predict", "round", "seconds", "weights")]
                print(
                    f"{'-'.join(map(str, sizes)):26} {row['sketches']:8d} "
                    f"{' '.join(f'{x:8.3f}' for x in cells)} {row['weights'] / row['seconds']:6.1f}",
                    flush=True,
                )
                rows.append(row)
    return rows


def one_pair(network: DeepAlign, sizes: tuple[int, ...], seed: int) -> list[dict[str, Any]]:
    """The seconds of one pair, with one sketch and with several."""
    design, rng = MLP(sizes), torch.Generator().manual_seed(seed)
    a, b = design.init(rng), design.init(rng)
    stacked = {n: torch.stack([w, b[n]]) for n, w in a.items()}
    none = torch.zeros(2)
    graph = graph_of(Family(design, Task("none"), stacked, none, none.long()))
    weights, _ = timed(lambda: WeightMatching()(graph.symmetry, a, b, rng=rng))
    rows = []
    for sketches in (1, SKETCHES):
        own = LearnedAligner(network, sketches=sketches)
        predict, found = timed(lambda own=own: dict(own.similarity(graph.symmetry, a, b, rng)))
        rounding, _ = timed(lambda s=found: {g: assign(matrix) for g, matrix in s.items()})
        rows.append(
            {
                "sizes": list(sizes),
                "sketches": sketches,
                "predict": predict,
                "round": rounding,
                "seconds": predict + rounding,
                "weights": weights,
            }
        )
    return rows


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that a call took, and its result."""
    started = time.perf_counter()
    found = run()
    return time.perf_counter() - started, found
