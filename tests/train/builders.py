"""Small data sets, families and pool entries that the tests of training share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepalign_cli.models.designs import Design
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.train.plans import Schedule
from deepalign_cli.train.pool import PoolEntry, graph_of
from deepalign_cli.train.tasks import Examples, Task
from deepalign_cli.train.zoo_files import Family
from deepalign_cli.train.zoo_training import train_family
from tests.symmetry.builders import seeded

TINY = Task("tiny", side=8, images=200, test=100)
FIELD = Task("tiny", side=8, images=4, test=4, field=True)
TEXT = Task("abc", images=200, test=50, context=12)
QUICK = Schedule(networks=3, epochs=4, batch=20, rate=1e-2)


def write_data(
    folder: Path, name: str = "tiny", side: int = 8, colours: int = 1, train: int = 200, test: int = 100
) -> Path:
    """A data set whose class k is a bright column k (modulo the side), the rest of it noise."""
    draw = np.random.default_rng(3)
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 4
        images = draw.integers(0, 60, (count, side, side) + ((colours,) if colours > 1 else ()))
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label : 2 * label + 2] += 150
        arrays |= {f"{part}_images": images.astype(np.uint8), f"{part}_labels": labels.astype(np.uint8)}
    np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)
    return folder


def write_text(folder: Path, name: str = "abc") -> Path:
    """A text in which every letter tells the next but one that is drawn."""
    draw = np.random.default_rng(4)
    words = ["abc", "def", "ghi", "jkl"]
    (folder / f"{name}.txt").write_text("".join(words[i] for i in draw.integers(0, 4, 36_000)))
    return folder


def separable(side: int = 4, count: int = 80) -> Examples:
    """Images of noise of which one of four columns is bright, in a Task's normalised form."""
    x = 0.3 * torch.randn(count, 1, side, side, generator=seeded(1))
    y = torch.arange(count) % 4
    x[torch.arange(count), 0, :, y] += 1.5
    return Examples(x, y, x[: count // 2], y[: count // 2])


def waves(side: int = 6, images: int = 4) -> Examples:
    """The pixels of a few smooth images as a field's examples."""
    line = torch.linspace(-1, 1, side)
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    values = torch.stack([torch.cos((1 + k) * places).prod(1) for k in range(images)])
    return Examples(places, values, places, values)


@cache
def trained(kind: str = "mlp") -> PoolEntry:
    """A family of four networks, trained for a moment, with its graph and examples."""
    design: Design = MLP((16, 8, 10)) if kind == "mlp" else Siren((2, 8, 1), 3.0)
    task = Task("tiny", side=4, images=80, test=40) if kind == "mlp" else Task("waves", side=6, field=True)
    examples = separable() if kind == "mlp" else waves()
    schedule = Schedule(networks=4 if kind == "mlp" else 8, epochs=3, batch=20, rate=1e-2, members=4)
    family = train_family(design, task, examples, schedule, seed=5)
    return entry_of(family, examples)


def entry_of(family: Family, examples: Examples, held: tuple[int, ...] = (2, 3)) -> PoolEntry:
    train = [i for i in range(len(family.score)) if i not in held]
    rest = torch.tensor(train, dtype=torch.long)
    return PoolEntry("family", family, graph_of(family), examples, rest, torch.tensor(held))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
