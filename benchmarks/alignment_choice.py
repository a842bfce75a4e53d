"""What `--refine auto` goes by, family by family: the slack of the prediction, and what was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from alignment_methods import Context
from alignment_tables import spread

from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.network.model import DeepAlign


def report_choice(
    network: DeepAlign, families: Iterable[tuple[str, Sequence[Context]]]
) -> list[dict[str, Any]]:
    """Print a line a family and return a row a pair."""
    print(f"{'':30} {'slack':>16}  kept")
    rows: list[dict[str, Any]] = []
    for name, contexts in families:
        own = [choice_row(network, name, context) for context in contexts]
        kept = Counter(row["kept"] for row in own)
        counts = ", ".join(f"{word} {count}" for word, count in sorted(kept.items()))
        print(f"{name:30} {spread([row['slack'] for row in own], 3):>16}  {counts}", flush=True)
        rows += own
    return rows


def choice_row(network: DeepAlign, family: str, context: Context) -> dict[str, Any]:
    """The slack of one pair's prediction, and the candidate that was kept."""
    found = LearnedAligner(network)(context.symmetry, context.a, context.b, rng=context.rng)
    return {"family": family, "slack": found.details["slack"], "kept": found.details["kept"]}
