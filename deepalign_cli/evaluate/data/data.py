"""Examples in memory or on disk, prepared batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.errors import DataError, UsageError
from deepalign_cli.evaluate.data.preparation import Preparation


@runtime_checkable
class Inputs(Protocol):
    """Stored inputs: how many, and some of them as a tensor; a tensor itself is such a thing."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor) -> Tensor: ...


@runtime_checkable
class Split(Protocol):
    """One split as it is stored: how many examples, and some of them with their labels, if there are any."""

    def __len__(self) -> int: ...

    def read(
        self, rows: Shaped[Tensor, " b"]
    ) -> tuple[Shaped[Tensor, "b ..."], Shaped[Tensor, "b ..."] | None]: ...


# What a source holds: its splits by name ("" where it has none), and what it says of itself.
Contents = tuple[Mapping[str, Split], Mapping[str, str]]


@dataclass(frozen=True)
class Part:
    """A split whose labels are in memory (one for each input); its inputs may be anywhere."""

    inputs: Inputs
    labels: Shaped[Tensor, ...] | None

    def __len__(self) -> int:
        return len(self.inputs)

    def read(
        self, rows: Shaped[Tensor, " b"]
    ) -> tuple[Shaped[Tensor, "b ..."], Shaped[Tensor, "b ..."] | None]:
        return self.inputs[rows], None if self.labels is None else self.labels[rows]


@dataclass(frozen=True)
class Data:
    """Some rows of one split of a data set, prepared as they are read.

    `source` and `split` are for the user to read; `parts` are all splits of the set, of which this is one.
    """

    source: str
    split: str
    parts: Mapping[str, Split]
    rows: Shaped[Tensor, " n"]
    preparation: Preparation

    @property
    def name(self) -> str:
        """Such as `mnist.npz, test, 10,000 examples`."""
        split = f", {self.split}" if self.split else ""
        return f"{self.source}{split}, {len(self):,} examples"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def part(self) -> Split:
        """The split."""
        return self.parts[self.split]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Prepared inputs with their labels, `size` at a time.

        Raises:
            DataError: inputs hold NaN or Inf, or cannot be prepared.
        """
        for rows in self.rows.split(size):
            stored, labels = self.part.read(rows)
            x = self.preparation(stored)
            if x.is_floating_point():
                x = (x if x.dtype == torch.float64 else x.float()).contiguous()
                if not torch.isfinite(x.sum()):
                    raise DataError(f"inputs of {self.source} hold NaN or Inf.", "clean the data set.")
            yield x, labels

    def inputs(self, size: int) -> Iterator[Tensor]:
        """Prepared inputs alone."""
        return (x for x, _ in self.batches(size))

    def head(self, count: int) -> Data:
        """At most `count` of the examples, evenly spaced."""
        return replace(self, rows=self.rows[spaced(len(self.rows), count)])

    def training(self) -> Data:
        """The training split, where there is one; else the same examples."""
        if self.split == "train" or "train" not in self.parts:
            return self
        return replace(self, split="train", rows=torch.arange(len(self.parts["train"])))


def spaced(count: int, most: int | None) -> Shaped[Tensor, " n"]:
    """Places from 0, evenly spaced over `count`, no more than `most`."""
    if most is None or most >= count:
        return torch.arange(count)
    return torch.arange(most) * count // most


def whole(source: str, parts: Mapping[str, Split], split: str | None, preparation: Preparation) -> Data:
    """A split of a set, checked: `split`, else test, else validation, else whatever there is.

    Raises:
        UsageError: there is no such split. DataError: it is empty, or inputs and labels differ in number.
    """
    names = ("test", "validation", "val", *parts)
    chosen = next((n for n in names if n in parts), None) if split is None else split
    if chosen not in parts:
        there = ", ".join(repr(n) for n in parts if n) or "no splits"
        raise UsageError(
            f"'{source}' has no split '{split}', but {there}.", "name one, or leave --split out."
        )
    for name, part in parts.items():
        _check(source, name, part)
    return Data(source, chosen, parts, torch.arange(len(parts[chosen])), preparation)


def _check(source: str, split: str, part: Split) -> None:
    where = f"'{source}'{f' ({split})' if split else ''}"
    if not len(part):
        raise DataError(f"{where} is empty.", "give data with examples in them.")
    labels = part.labels if isinstance(part, Part) else None
    if labels is None:
        return
    if not labels.ndim or len(labels) != len(part):
        count = len(labels) if labels.ndim else "no"
        raise DataError(f"{where} has {len(part)} inputs but {count} labels.", "every input needs its label.")
    if labels.is_floating_point() and not torch.isfinite(labels).all():
        raise DataError(f"labels of {where} hold NaN or Inf.", "clean the data set.")
