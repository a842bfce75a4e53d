"""What `alignment.py` measured: records for JSON, a table a family, and means over families."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepalign_cli.train.validation import FLOOR

SECTIONS: Mapping[str, str] = {
    "mlp": "in-distribution MLPs",
    "conv": "in-distribution CNNs and ResNets",
    "deep": "deep narrow MLPs",
    "shift": "shifts",
    "long": "trained longer",
}
WITH_DATA = ("activations", "dual", "sinkhorn")  # methods of others that look at data
ORACLE = "oracle"  # of a family, the best of these
REFERENCES = ("weights", "activations", "sinkhorn", ORACLE)


@dataclass(frozen=True)
class Outcome:
    """One method on one pair."""

    barrier: float
    auc: float
    midpoint_accuracy: float | None
    seconds: float
    loss: tuple[float, ...]


@dataclass(frozen=True)
class PairResult:
    """All methods on one pair of networks, given by their places in the family."""

    networks: tuple[int, int]
    methods: dict[str, Outcome]


@dataclass(frozen=True)
class FamilyResult:
    """All pairs of one family; the section is the first word of its name."""

    name: str
    design: dict[str, Any]
    task: dict[str, Any]
    scores: tuple[float, ...]
    pairs: list[PairResult] = field(default_factory=list)

    @property
    def section(self) -> str:
        return section_of(self.name)

    @property
    def methods(self) -> list[str]:
        """The methods that at least one pair was given to."""
        return list(dict.fromkeys(name for pair in self.pairs for name in pair.methods))

    def barriers(self, method: str, among: str | None = None) -> list[float]:
        """The barriers of a method on all pairs that it, and `among`, were given."""
        if method == ORACLE:
            return min((self.barriers(name) for name in WITH_DATA if self.barriers(name)), key=mean)
        if among == ORACLE:
            among = min(
                (name for name in WITH_DATA if self.barriers(name)), key=lambda n: mean(self.barriers(n))
            )
        return [
            pair.methods[method].barrier
            for pair in self.pairs
            if method in pair.methods and (among is None or among in pair.methods)
        ]


def section_of(name: str) -> str:
    """The section that a family is reported in: the first word of its name."""
    return name.partition("-")[0]


def family_table(result: FamilyResult) -> str:
    """A line a method: mean and standard deviation over the pairs."""
    score = sum(result.scores) / len(result.scores)
    lines = [
        f"\n{result.name}: {len(result.pairs)} pairs, score of the networks {score:.3f}",
        f"  {'':22} {'barrier':>15} {'AUC':>16} {'acc. at 1/2':>15} {'seconds':>8} {'pairs':>5}",
    ]
    for method in result.methods:
        found = [pair.methods[method] for pair in result.pairs if method in pair.methods]
        accuracies = [o.midpoint_accuracy for o in found if o.midpoint_accuracy is not None]
        cells = [
            f"{spread([o.barrier for o in found], 4):>15}",
            f"{spread([o.auc for o in found], 4):>16}",
            f"{spread(accuracies, 3) if accuracies else '-':>15}",
            f"{mean(o.seconds for o in found):8.2f}",
            f"{len(found):5d}",
        ]
        lines.append(f"  {method:22} {' '.join(cells)}")
    return "\n".join(lines)


def summary(results: Sequence[FamilyResult]) -> dict[str, dict[str, dict[str, float]]]:
    """By section and method, against each reference: the geometric mean over families of barrier ratios.

    A ratio is (b + FLOOR) / (b_reference + FLOOR) of mean barriers over the pairs that both were given;
    `families` counts those that the method was given, of which every family counts once.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for section in dict.fromkeys(r.section for r in results):
        own = [r for r in results if r.section == section]
        for method in dict.fromkeys(m for r in own for m in r.methods):
            row: dict[str, float] = {"families": sum(method in r.methods for r in own)}
            for reference in REFERENCES:
                ratios = [q for r in own if (q := ratio(r, method, reference)) is not None]
                if ratios:
                    row[reference] = math.exp(mean(math.log(q) for q in ratios))
            found.setdefault(section, {})[method] = row
    return found


def ratio(result: FamilyResult, method: str, reference: str) -> float | None:
    """The method's mean barrier over the reference's, with the floor; None where they share no pair."""
    if reference == ORACLE and not any(result.barriers(name) for name in WITH_DATA):
        return None
    own, others = result.barriers(method, reference), result.barriers(reference, method)
    return (mean(own) + FLOOR) / (mean(others) + FLOOR) if own and others else None


def summary_table(results: Sequence[FamilyResult]) -> str:
    """The summary as text."""
    lines = [f"\nbarriers relative to a reference's: (b + {FLOOR}) / (b_ref + {FLOOR}), geometric means"]
    for section, rows in summary(results).items():
        lines.append(f"\n{SECTIONS.get(section, section)}")
        heads = " ".join(f"{f'/ {name}':>14}" for name in REFERENCES)
        lines.append(f"  {'':22} {heads} {'families':>9}")
        for method, row in rows.items():
            cells = " ".join(f"{f'{row[r]:.3f}' if r in row else '-':>14}" for r in REFERENCES)
            lines.append(f"  {method:22} {cells} {row['families']:9.0f}")
    return "\n".join(lines)


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    found = list(values)
    return sum(found) / len(found)


def spread(values: Sequence[float], digits: int) -> str:
    """Mean +- sample standard deviation; of one value the value."""
    centre = mean(values)
    if len(values) == 1:
        return f"{centre:.{digits}f}"
    deviation = math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1))
    return f"{centre:.{digits}f} +- {deviation:.{digits}f}"
