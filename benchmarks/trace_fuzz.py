"""Random programs against the tracer, by the thousand: `python benchmarks/trace_fuzz.py LO HI` (seeds).

Prints each batch's first seed, so that a run may go on where another ended, and every program whose spec
is wrong, with its operations. Run it from the repository's root.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from deepalign_cli.errors import SpecError
from deepalign_cli.tracing.pipeline import label
from deepalign_cli.tracing.rules.rulebook import load_rules
from tests.tracing.programs import Forest
from tests.tracing.quick import Quick, faults

TOGETHER = 20


def main(low: int, high: int) -> None:
    """Check the programs of these seeds."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.backends.mha.set_fastpath_enabled(False)
    groups = elements = wrong = 0
    unknown: Counter[str] = Counter()
    met: set[str] = set()
    for start in range(low, high, TOGETHER):
        forest, x = Forest(range(start, start + TOGETHER)), torch.randn(3, 6)
        program = Quick(forest, x)
        traced = label(program)
        try:
            bad, tried = faults(traced.spec, forest, x)
        except SpecError as error:
            print(f"seeds from {start}: {error}", flush=True)
            continue
        plans = dict(forest.plans())
        for group, what in bad.items():
            print("WRONG", group, what, plans[group.split(".")[1]], flush=True)
        groups, elements, wrong = groups + len(traced.spec.sizes), elements + tried, wrong + len(bad)
        unknown.update({name.split(" in ")[0]: n for name, n in traced.unknown.items()})
        met |= {str(node.target).split(".")[1] for node in program.nodes if "aten." in str(node.target)}
        print(
            f"seeds {low} to {start + TOGETHER}: {groups} groups, {elements} elements, {wrong} wrong",
            flush=True,
        )
    print("without a rule:", dict(unknown))
    print("rules of operations that were not drawn:", *sorted(set(load_rules()) - met))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
