"""What a zoo's recipe asks for: every family's design, task, schedule and seed."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deepalign_cli.errors import UsageError
from deepalign_cli.integers import check_integers
from deepalign_cli.models.designs import Design
from deepalign_cli.train.draws import draw_design
from deepalign_cli.train.recipes import make
from deepalign_cli.train.tasks import Task


@dataclass(frozen=True)
class Schedule:
    """How the networks of a zoo are trained: Adam with a cosine-shaped rate, own data order each.

    Each network sees its own `share` of the images. For the first `common` of the steps there is one
    network, the parent of all. `half`: convolutions and products in bfloat16. All that is drawn with two
    axes or more begins `gain` times as large as the design draws it.
    """

    networks: int = 16
    epochs: float = 4.0
    batch: int = 100
    rate: float = 1e-3
    members: int = 1  # how many images there are, for fields: networks of one image can be merged
    share: float = 1.0
    common: float = 0.0
    half: bool = False
    gain: float = 1.0

    def __post_init__(self) -> None:
        check_integers(self, {"networks": 1, "batch": 1, "members": 1})
        if not (0 < self.epochs < math.inf and 0 < self.rate < math.inf):
            raise ValueError("epochs and rate must be above 0")
        if not 0 < self.gain < math.inf:
            raise ValueError("gain must be above 0")
        if not (0 < self.share <= 1 and 0 <= self.common < 1):
            raise ValueError("share must be above 0 and at most 1, and common at least 0 and below 1")
        if self.common and self.members > 1:
            raise ValueError("networks of several members have no common parent")


@dataclass(frozen=True)
class FamilyPlan:
    """A family that is to be trained; `seed` is that of its networks."""

    name: str
    design: Design
    task: Task
    schedule: Schedule
    seed: int


def family_plans(recipe: Mapping[str, Any]) -> list[FamilyPlan]:
    """Every family of a recipe's tables, in its order. What is drawn for a set depends on no other set.

    Raises:
        UsageError: something in the recipe is unknown or not usable.
    """
    unknown = set(recipe) - {"seed", "schedule", "set"}
    if unknown:
        raise UsageError(f"the recipe has an unknown entry '{min(unknown)}'.", _ENTRIES)
    sets = recipe.get("set")
    if not isinstance(sets, list) or not sets or not all(isinstance(table, dict) for table in sets):
        raise UsageError("the recipe has no [[set]].", _ENTRIES)
    seed = recipe.get("seed", 0)
    if type(seed) is not int:
        raise UsageError(f"the recipe's seed must be an integer, not {seed!r}.", "seed = 1")
    usual = recipe.get("schedule", {})
    make(Schedule, usual, "schedule")
    named: dict[str, _Set] = {}
    for family_set in (_set_of(index, table, usual) for index, table in enumerate(sets)):
        if named.setdefault(family_set.name, family_set) is not family_set:
            raise UsageError(f"two sets are called '{family_set.name}'.", "give each its own name.")
    return [plan for family_set in named.values() for plan in family_set.families(seed)]


@dataclass(frozen=True)
class _Set:
    """One [[set]]; `ranges` is the rest of its table, which its designs are drawn from."""

    name: str
    kind: str
    count: int
    task: Task
    schedule: Schedule
    ranges: Mapping[str, Any]

    def families(self, seed: int) -> Iterator[FamilyPlan]:
        """The set's families, drawn one after the other."""
        rng = random.Random(f"{seed}/{self.name}")
        for number in range(self.count):
            design = draw_design(self.kind, self.ranges, self.task, rng)
            name = f"{self.name}-{number:02d}"
            yield FamilyPlan(name, design, self.task, self.schedule, rng.randrange(2**31))


def _set_of(index: int, table: Mapping[str, Any], usual: Mapping[str, Any]) -> _Set:
    ranges, design = dict(table), table.get("design")
    kind = ranges.pop("kind", design.get("kind", "mlp") if isinstance(design, Mapping) else "mlp")
    count, name = ranges.pop("count", 1), ranges.pop("name", f"{kind}-{index}")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(
            f"a set cannot be called {name!r}.",
            "use letters, digits, '.', '_' and '-'.",
        )
    if not isinstance(kind, str) or type(count) is not int or count < 1:
        raise UsageError(f"the set '{name}' needs a kind and a count.", 'write kind = "mlp", count = 2.')
    task = make(Task, ranges.pop("task", {}), "set.task")
    schedule = ranges.pop("schedule", {})
    both = {**usual, **schedule} if isinstance(schedule, Mapping) else schedule
    return _Set(name, kind, count, task, make(Schedule, both, "schedule"), ranges)


_ENTRIES = "it may hold format, seed, [schedule] and [[set]]."
