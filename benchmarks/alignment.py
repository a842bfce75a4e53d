"""Alignment methods on held-out pairs of trained networks: barrier, area, midpoint accuracy, seconds.

    deepalign zoo benchmarks/alignment.zoo.toml --data DATA --out ZOO
    python benchmarks/alignment.py --zoo ZOO --data DATA --network PATH [--dws PATH] [--out results.json]
    python benchmarks/alignment.py --zoo ZOO --data DATA --network PATH --starts
    python benchmarks/alignment.py --zoo ZOO --data DATA --network PATH --choice
    python benchmarks/alignment.py --network PATH --speed [--zoo ZOO --data DATA]

Every family of the zoo gives its pairs (networks 2p and 2p + 1; of fields, two networks of one image),
the same for all methods. The loss is the test loss at 11 points of the path. BatchNorm's statistics are
re-estimated on 2,000 training images at every point, the ends included, for every method. Sinkhorn
re-basin is slow: it gets `--sinkhorn-pairs` pairs a family and, unless `--methods` names it, only networks
without convolutions and of fewer than 300,000 parameters.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from alignment_choice import report_choice
from alignment_methods import SLOW, Context, Method, method_table
from alignment_paths import Judge
from alignment_speed import Pair, report_speed
from alignment_starts import report_starts
from alignment_tables import (
    SECTIONS,
    FamilyResult,
    Outcome,
    PairResult,
    family_table,
    section_of,
    summary,
    summary_table,
)
from sinkhorn_rebasin import Rebasin

from deepalign_cli.errors import MismatchError
from deepalign_cli.models.designs import config_of
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.saved import load_network
from deepalign_cli.train.pool import graph_of
from deepalign_cli.train.tasks import Examples, Task, load_examples
from deepalign_cli.train.zoo_files import Family, load_family

_SLOW_FROM = 300_000  # parameters


@dataclass(frozen=True)
class PoolEntry:
    """A family, ready to be measured."""

    name: str
    family: Family
    graph: Graph
    examples: Examples

    def pairs(self, most: int) -> list[tuple[int, int]]:
        """Places of networks that belong together, each in one pair."""
        found = []
        for member in sorted(set(self.family.member.tolist())):
            own = (self.family.member == member).nonzero().flatten().tolist()
            found += list(zip(own[::2], own[1::2], strict=False))
        return found[:most]

    def context(self, pair: tuple[int, int]) -> Context:
        a, b = (self.family.network(i) for i in pair)
        member = int(self.family.member[pair[0]])
        rng = torch.Generator().manual_seed(pair[0])
        return Context(self.graph, self.family, self.examples, a, b, member, rng)

    @property
    def is_large(self) -> bool:
        """Whether slow methods are spared this family unless they are asked for."""
        weights = self.family.weights.values()
        return any(w.ndim > 3 for w in weights) or sum(w[0].numel() for w in weights) >= _SLOW_FROM


def entries(zoo: Path, data: Path, sets: list[str]) -> Iterator[PoolEntry]:
    """The families whose names begin with one of `sets`, in the sections' order."""
    read: dict[Task, Examples] = {}
    place = {section: number for number, section in enumerate(SECTIONS)}
    paths = [path for path in zoo.glob("*.safetensors") if path.stem.startswith(tuple(sets))]
    if not paths:
        raise SystemExit(f"there are no networks of {' or '.join(sets) or 'a zoo'} in '{zoo}'.")
    for path in sorted(paths, key=lambda p: (place.get(section_of(p.stem), len(place)), p)):
        family = load_family(path)
        if family.task not in read:
            read = {family.task: load_examples(family.task, data)}  # one data set at a time in memory
        yield PoolEntry(path.stem, family, graph_of(family), read[family.task])


def measure(entry: PoolEntry, methods: Mapping[str, Method], arguments: argparse.Namespace) -> FamilyResult:
    """All methods on the pairs of a family; a method that does not fit the family is left out."""
    scores = tuple(entry.family.score.tolist())
    task = asdict(entry.family.task)
    result = FamilyResult(entry.name, config_of(entry.family.design), task, scores)
    for number, pair in enumerate(entry.pairs(arguments.pairs)):
        chosen = {
            name: method
            for name, method in methods.items()
            if name != SLOW
            or (number < arguments.sinkhorn_pairs and (arguments.methods or not entry.is_large))
        }
        result.pairs.append(PairResult(pair, outcomes(entry, pair, chosen)))
    return result


def outcomes(entry: PoolEntry, pair: tuple[int, int], methods: Mapping[str, Method]) -> dict[str, Outcome]:
    """What every method makes of one pair."""
    context = entry.context(pair)
    judge = Judge(entry.family, entry.examples, context.member)
    ends = judge.point(context.a), judge.point(context.b)
    found = {}
    for name, method in methods.items():
        own = entry.context(pair)  # with random numbers of its own, so that methods do not depend on others
        started = time.perf_counter()
        try:
            element = method(own)
        except MismatchError:
            continue
        seconds = time.perf_counter() - started
        path = judge.path(own.a, own.symmetry.apply(element, own.b), ends)
        losses = tuple(path.losses.tolist())
        found[name] = Outcome(path.barrier, path.area, path.midpoint_accuracy, seconds, losses)
    return found


def report(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and print family by family; the results so far are written after each."""
    table = method_table(
        load_network(arguments.network) if arguments.network else None,
        load_network(arguments.dws) if arguments.dws else None,
        Rebasin(arguments.iterations),
    )
    unknown = [name for name in arguments.methods or () if name not in table]
    if unknown:
        raise SystemExit(f"there is no method '{unknown[0]}' here: one of {', '.join(table)}.")
    methods = {name: table[name] for name in arguments.methods or table}
    results: list[FamilyResult] = []
    found: dict[str, Any] = {}
    for entry in entries(arguments.zoo, arguments.data, arguments.sets):
        results.append(measure(entry, methods, arguments))
        print(family_table(results[-1]), flush=True)
        found = {
            "schema": 1,
            "threads": torch.get_num_threads(),
            "families": [asdict(result) for result in results],
            "summary": summary(results),
        }
        write(arguments.out, found)
    print(summary_table(results))
    return found


def contexts(arguments: argparse.Namespace, sets: list[str]) -> Iterator[tuple[str, list[Context]]]:
    """The pairs of every family."""
    for entry in entries(arguments.zoo, arguments.data, sets):
        yield entry.name, [entry.context(pair) for pair in entry.pairs(arguments.pairs)]


def trained_pairs(arguments: argparse.Namespace) -> Iterator[Pair] | None:
    """The pairs of a zoo to take the time of; None where no zoo is given."""
    if arguments.zoo is None:
        return None
    return (
        (name, pair.symmetry, pair.a, pair.b)
        for name, pairs in contexts(arguments, arguments.sets)
        for pair in pairs
    )


def write(path: Path | None, found: Mapping[str, Any]) -> None:
    """Write results as JSON where a file is named."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, help="folder of alignment.zoo.toml's networks")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--network", type=Path, help="a universal aligner")
    parser.add_argument("--dws", type=Path, help="an aligner of one family")
    parser.add_argument("--pairs", type=int, default=20, help="at most, a family")
    parser.add_argument("--sets", nargs="+", default=[""], help="families: how their names begin")
    parser.add_argument("--methods", nargs="+", help="all but sinkhorn on large networks, if not given")
    parser.add_argument("--iterations", type=int, default=Rebasin.iterations, help="of sinkhorn")
    parser.add_argument("--sinkhorn-pairs", type=int, default=3, help="at most, a family, for sinkhorn")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--starts", action="store_true", help="refiners from the prediction and cold")
    parser.add_argument("--speed", action="store_true", help="prediction against weight matching")
    parser.add_argument("--choice", action="store_true", help="what --refine auto goes by")
    arguments = parser.parse_args()
    if (arguments.starts or arguments.speed or arguments.choice) and not arguments.network:
        parser.error("--starts, --speed and --choice take a --network")
    if not arguments.speed and not (arguments.zoo and arguments.data):
        parser.error("--zoo and --data are needed")
    return arguments


def main() -> None:
    """Parse the command line and run."""
    arguments = parse()
    if arguments.speed:
        rows = report_speed(load_network(arguments.network), trained_pairs(arguments))
        write(arguments.out, {"schema": 1, "speed": rows})
    elif arguments.choice:
        rows = report_choice(load_network(arguments.network), contexts(arguments, arguments.sets))
        write(arguments.out, {"schema": 1, "choice": rows})
    elif arguments.starts:
        families = contexts(arguments, arguments.sets if arguments.sets != [""] else ["mlp-"])
        network, settings = load_network(arguments.network), Rebasin(arguments.iterations)
        rows = report_starts(network, families, settings, arguments.sinkhorn_pairs)
        write(arguments.out, {"schema": 1, "starts": rows})
    else:
        report(arguments)


if __name__ == "__main__":
    main()
