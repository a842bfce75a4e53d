"""The networks that an aligner is trained on: families with their graphs, examples and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from deepalign_cli.errors import UsageError
from deepalign_cli.network.graph import Graph
from deepalign_cli.train.known import symmetry_of
from deepalign_cli.train.tasks import Examples, Task, load_examples
from deepalign_cli.train.zoo_files import Family, load_family
from deepalign_cli.train.zoo_losses import losses

HELD_OUT = 2  # the last networks of a family (of each member's) are for validation


@dataclass(frozen=True)
class PoolEntry:
    """A family, ready to be learned from; `train` and `held` are indices of its networks."""

    name: str
    family: Family
    graph: Graph
    examples: Examples
    train: Int64[Tensor, " t"]
    held: Int64[Tensor, " v"]

    def stack(self, indices: Int64[Tensor, " k"]) -> dict[str, Tensor]:
        """The weights of some networks, stacked."""
        return {name: w[indices] for name, w in self.family.weights.items()}

    def one(self, index: int) -> dict[str, Tensor]:
        """The weights of one network, as a stack of one."""
        return self.stack(torch.tensor([index]))

    def loss(self, weights: Mapping[str, Tensor], index: int, x: Tensor, y: Tensor) -> float:
        """The loss of a stack of one on examples; of a field, on the image of network `index`."""
        y = y[self.family.member[index]] if self.family.task.field else y
        return float(losses(self.family.design, self.family.task, weights, x[None], y[None]))


def load_pool(zoo: Path, data: Path) -> list[PoolEntry]:
    """Every family of a zoo's folder, in the order of the names; data sets are read once.

    Raises:
        UsageError: the folder holds no zoo, or a data set is missing.
    """
    paths = sorted(zoo.glob("*.safetensors"))
    if not paths:
        raise UsageError(f"there is no zoo in '{zoo}'.", "`deepalign zoo RECIPE.toml --data D --out ZOO`.")
    read: dict[Task, Examples] = {}
    pool = []
    for path in paths:
        family = load_family(path)
        if family.task not in read:
            read[family.task] = load_examples(family.task, data)
        train, held = _split(family.member)
        pool.append(PoolEntry(path.stem, family, graph_of(family), read[family.task], train, held))
    return pool


def graph_of(family: Family) -> Graph:
    """The graph of a family's design.

    Raises:
        SpecError, AmbiguousError: its tensors' names and shapes do not tell what may move.
    """
    return Graph(symmetry_of(family.design, family.network(0)))


def _split(member: Int64[Tensor, " networks"]) -> tuple[Tensor, Tensor]:
    """Indices for training and for validation. Where there are members, whole members are held out."""
    members = torch.unique(member)
    indices = torch.arange(len(member))
    if len(members) == 1:
        return indices[:-HELD_OUT], indices[-HELD_OUT:]
    held = torch.isin(member, members[-HELD_OUT:])
    pair = torch.cat([indices[member == m][:2] for m in members[-HELD_OUT:]])
    return indices[~held], pair


def pairs_of(entry: PoolEntry, nets: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of networks to encode, and two rows of places in them: who is aligned to whom."""
    member = entry.family.member[entry.train]
    chosen = torch.unique(member)
    if len(chosen) == 1:
        order = entry.train[torch.randperm(len(entry.train), generator=rng)[:nets]]
        places = torch.arange(len(order))
        return order, places, places.roll(-1)
    picked = chosen[torch.randperm(len(chosen), generator=rng)[: nets // 2]]
    both = []
    for m in picked:
        networks = entry.train[member == m]
        both.append(networks[torch.randperm(len(networks), generator=rng)[:2]])
    places = torch.arange(2 * len(both)).reshape(-1, 2)
    return torch.cat(both), torch.cat([places[:, 0], places[:, 1]]), torch.cat([places[:, 1], places[:, 0]])
