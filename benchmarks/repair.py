"""What repair is worth: barriers of zoo networks with and without it, for every method, in one table.

    deepalign zoo benchmarks/alignment.zoo.toml --data DATA --out ZOO
    python benchmarks/repair.py --zoo ZOO --data DATA [--sets conv mlp-mnist] [--pairs 3] [--out repair.json]

Every pair is measured by what `deepalign barrier --repair` runs: the test loss (2,000 examples) at 11 points,
statistics repaired on 2,000 training images. BatchNorm is re-estimated; networks without it get REPAIR.
`deepalign` chooses on training images, `deepalign, no data` does not see any. Figures are means over pairs:
barrier, and midpoint accuracy. `gone` is the share of the barrier that repair takes away.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deepalign_cli.data.preparation import Preparation
from deepalign_cli.measure.curve import Curve, mean_and_spread
from deepalign_cli.operations.barrier import REPAIRED, Question, barrier_files
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.train.export import export_network, preparation_of
from deepalign_cli.train.zoo_files import Family, load_family

METHODS = ("weights", "activations", "dual", "deepalign")
BLIND = "deepalign, no data"


def pairs_of(family: Family, most: int) -> list[tuple[int, int]]:
    """Networks 2p and 2p + 1."""
    count = len(family.score)
    return [(i, i + 1) for i in range(0, count - 1, 2)][:most]


def curves_of(
    family: Family, pair: tuple[int, int], preparation: Preparation | None, data: Path
) -> Iterator[tuple[str, Curve]]:
    """Every method's curve, with and without repair."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = tuple(Path(folder) / f"{i}.safetensors" for i in pair)
        for place, path in zip(pair, inputs, strict=True):
            export_network(path, family.design, family.network(place), preparation)
        running = RunSettings(data=str(data / f"{family.task.data}.npz"), limit=2000)
        seeing = Question(inputs, METHODS, Settings(), running, (), 11, repair=True)
        prior = Settings(options={"refine": "prior"})
        blind = Question(inputs, ("deepalign",), prior, running, (), 11, repair=True)
        for path in barrier_files(seeing).paths:
            yield path.name, path.curves[0]
        for path in barrier_files(blind).paths:
            if path.name.startswith("deepalign"):
                yield path.name.replace("deepalign", BLIND), path.curves[0]


def report(zoo: Path, data: Path, sets: list[str], most: int, out: Path | None) -> None:
    """Measure and print family by family; what is found so far is written after each."""
    kept: dict[str, dict[str, list[list[float]]]] = {}
    for path in sorted(p for p in zoo.glob("*.safetensors") if p.stem.startswith(tuple(sets))):
        family, found = load_family(path), dict[str, list[Curve]]()
        preparation = preparation_of(family.task, data)
        pairs = pairs_of(family, most)
        for pair in pairs:
            for name, curve in curves_of(family, pair, preparation, data):
                found.setdefault(name, []).append(curve)
        _print(path.stem, len(pairs), found)
        kept[path.stem] = {name: [list(c.losses) for c in curves] for name, curves in found.items()}
        if out:
            out.write_text(json.dumps(kept))


def _print(name: str, pairs: int, found: dict[str, list[Curve]]) -> None:
    print(f"\n{name}, {pairs} pairs")
    print(f"{'method':>20} {'barrier':>9} {'repaired':>9} {'gone':>7} {'midpoint':>9} {'repaired':>9}")
    for method, curves in found.items():
        if method.endswith(REPAIRED):
            continue
        sides = [curves, found[f"{method}{REPAIRED}"]]
        before, after = (mean_and_spread([c.barrier for c in side])[0] for side in sides)
        right = [100 * mean_and_spread([c.midpoint_accuracy or 0.0 for c in side])[0] for side in sides]
        gone = f"{100 * (1 - after / before):.0f} %" if before > 1e-4 else "-"
        print(
            f"{method:>20} {before:9.4f} {after:9.4f} {gone:>7} {right[0]:8.1f}% {right[1]:8.1f}%", flush=True
        )


def main() -> None:
    """Read the arguments and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=["conv", "mlp-mnist-128x3"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report(arguments.zoo, arguments.data, arguments.sets, arguments.pairs, arguments.out)


if __name__ == "__main__":
    main()
