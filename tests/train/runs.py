"""Tiny recipes, zoos and runs that the tests of the loop and of the commands share."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.train.plans import Schedule
from deepalign_cli.train.pool import PoolEntry, load_pool
from deepalign_cli.train.tasks import Task, load_examples
from deepalign_cli.train.zoo_files import Family, save_family
from deepalign_cli.train.zoo_training import train_family
from tests.train.builders import write_data

NETWORK = {"channels": 8, "hidden": 8, "sketch": 4, "sweeps": 1, "out": 8}
STEPS = {"steps": 12, "rate": 1e-2, "networks": 3, "images": 8, "planted_every": 2, "validate_every": 4}
ZOO = """
seed = 3
[schedule]
networks = 4
epochs = 2
batch = 20
[[set]]
name = "{name}"
kind = "mlp"
count = 2
depth = [1, 1]
width = [8, 8]
task = {{ data = "tiny", side = 4, images = 80, test = 40 }}
"""


def toml(**tables: dict[str, Any]) -> str:
    """Tables of numbers as TOML."""
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


@cache
def families(folder: Path) -> dict[str, Family]:
    """Two families of five networks each, trained for a moment on the data in a folder."""
    task = Task("tiny", side=4, images=80, test=40)
    schedule = Schedule(networks=5, epochs=3, batch=20, rate=1e-2)
    examples = load_examples(task, folder)
    designs = {"narrow": MLP((16, 6, 10)), "wide": MLP((16, 9, 7, 10))}
    return {n: train_family(d, task, examples, schedule, i) for i, (n, d) in enumerate(designs.items())}


def write_zoo(folder: Path) -> Path:
    """A folder with `data`, `zoo` and `recipe.toml`."""
    for name in ("data", "zoo"):
        (folder / name).mkdir()
    write_data(folder / "data")
    for name, family in families(folder / "data").items():
        save_family(folder / "zoo" / f"{name}.safetensors", family)
    (folder / "recipe.toml").write_text(toml(network=NETWORK, train=STEPS))
    return folder


def read_pool(folder: Path) -> list[PoolEntry]:
    return load_pool(folder / "zoo", folder / "data")


def log_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without the only thing in them that may differ."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(line.pop("seconds") > 0 for line in lines)
    return lines
