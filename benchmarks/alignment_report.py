"""The results of `alignment.py` as Markdown, for docs/results.md.

    python benchmarks/alignment_report.py a.json [b.json ...]

Reads what one or more runs (of different families) wrote to `--out`, and prints a table of barriers, one of
the points half-way, one of seconds, and the geometric means over families.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alignment_tables import (
    FLOOR,
    REFERENCES,
    SECTIONS,
    FamilyResult,
    Outcome,
    PairResult,
    mean,
    spread,
    summary,
)

COLUMNS = (
    "none", "weights", "activations", "dual", "sinkhorn", "universal", "no dreams", "default", "default, data"
)  # fmt: skip


def read(paths: Sequence[Path]) -> list[FamilyResult]:
    """The families of all files, by section and name."""
    found = [_family(record) for path in paths for record in json.loads(path.read_text())["families"]]
    return sorted(found, key=lambda result: (list(SECTIONS).index(result.section), result.name))


def _family(record: dict[str, Any]) -> FamilyResult:
    pairs = [
        PairResult(tuple(p["networks"]), {name: Outcome(**o) for name, o in p["methods"].items()})
        for p in record["pairs"]
    ]
    return FamilyResult(record["name"], record["design"], record["task"], tuple(record["scores"]), pairs)


def table(results: Sequence[FamilyResult], value: Callable[[Outcome], float | None], digits: int) -> str:
    """One row a family, one column a method: mean +- standard deviation over its pairs."""
    lines = [f"| family (pairs) | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for result in results:
        cells = []
        for method in COLUMNS:
            found = [value(p.methods[method]) for p in result.pairs if method in p.methods]
            known = [v for v in found if v is not None]
            cells.append(spread(known, digits) if known else "")
        name = result.name.removesuffix("-00")
        lines.append(f"| {name} ({len(result.pairs)}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(results: Sequence[FamilyResult]) -> str:
    """Per section and method, the geometric means of the barriers' ratios."""
    lines = [
        f"| families | method | {' | '.join(f'/ {name}' for name in REFERENCES)} | of |",
        "|---" * (len(REFERENCES) + 3) + "|",
    ]
    for section, rows in summary(results).items():
        for method, row in rows.items():
            cells = " | ".join(f"{row[r]:.2f}" if r in row else "" for r in REFERENCES)
            lines.append(f"| {SECTIONS[section]} | {method} | {cells} | {row['families']:.0f} |")
    return "\n".join(lines)


def seconds(results: Sequence[FamilyResult]) -> str:
    """Mean seconds of an alignment, by section."""
    lines = [f"| families | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for section in dict.fromkeys(r.section for r in results):
        pairs = [p for r in results if r.section == section for p in r.pairs]
        cells = []
        for method in COLUMNS:
            found = [p.methods[method].seconds for p in pairs if method in p.methods]
            cells.append(f"{mean(found):.2f}" if found else "")
        lines.append(f"| {SECTIONS[section]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path)
    results = read(parser.parse_args().results)
    print("Barrier of the test loss:\n\n" + table(results, lambda o: o.barrier, 3))
    print("\nArea under the excess, not clipped:\n\n" + table(results, lambda o: o.auc, 3))
    print("\nAccuracy half-way:\n\n" + table(results, lambda o: o.midpoint_accuracy, 3))
    print(
        f"\nGeometric means over families of (b + {FLOOR}) / (b_reference + {FLOOR}):\n\n" + ratios(results)
    )
    print("\nSeconds an alignment, one thread:\n\n" + seconds(results))


if __name__ == "__main__":
    main()
