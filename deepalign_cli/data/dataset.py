"""Examples in memory or on disk, prepared batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.data.preparation import Preparation
from deepalign_cli.errors import DataError, UsageError

# Some inputs, and their labels if there are any.
Examples = tuple[Shaped[Tensor, "b ..."], Shaped[Tensor, "b ..."] | None]
_NEEDS_EXAMPLES = "give data with examples in them."


@runtime_checkable
class Inputs(Protocol):
    """Stored inputs: how many, and some of them as a tensor; a tensor itself qualifies."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor) -> Tensor: ...


@runtime_checkable
class Split(Protocol):
    """One split as it is stored: how many examples, and some of them with their labels."""

    def __len__(self) -> int: ...

    def read(self, rows: Shaped[Tensor, " b"]) -> Examples: ...


# What a source holds: its splits by name ("" where it has none), and what it says of itself.
Contents = tuple[Mapping[str, Split], Mapping[str, str]]


@dataclass(frozen=True)
class Part:
    """A split whose labels are in memory (one for each input); its inputs may be anywhere."""

    inputs: Inputs
    labels: Shaped[Tensor, " ..."] | None

    def __len__(self) -> int:
        return len(self.inputs)

    def read(self, rows: Shaped[Tensor, " b"]) -> Examples:
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
        return f"{self.source}{split}, {len(self):,} example{'s' * (len(self) != 1)}"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def part(self) -> Split:
        """The split."""
        return self.parts[self.split]

    def batches(self, size: int) -> Iterator[Examples]:
        """Prepared inputs with their labels, `size` at a time.

        Raises:
            DataError: inputs hold NaN or Inf, or cannot be prepared.
        """
        for start in range(0, len(self), size):
            stored, labels = self.part.read(self.rows[start : start + size])
            x = self.preparation(stored).contiguous()
            for what, values in (("inputs", x), ("labels", labels)):
                if values is not None and not _is_finite(values):
                    raise DataError(f"{what} of '{self.source}' hold NaN or Inf.", "clean the data set.")
            yield x, labels

    def inputs(self, size: int) -> Iterator[Tensor]:
        """Prepared inputs alone."""
        return (x for x, _ in self.batches(size))

    def head(self, count: int) -> Data:
        """At most `count` of the examples, evenly spaced."""
        return replace(self, rows=self.rows[spaced(len(self.rows), count)])

    def on(self, split: str, limit: int | None = None) -> Data:
        """Another split of the same set, at most `limit` examples of it, prepared the same way.

        Raises:
            UsageError: there is no such split. DataError: it is empty.
        """
        other = whole(self.source, self.parts, split, self.preparation)
        return replace(other, rows=spaced(len(other), limit))

    def training(self) -> Data:
        """All of the training split, where there is one (with labels, if these have any); else the same."""
        train = self.parts.get("train")
        if train is None or self.split == "train" or (_unlabelled(train) and not _unlabelled(self.part)):
            return self
        return replace(self, split="train", rows=torch.arange(len(train)))


def spaced(count: int, most: int | None) -> Shaped[Tensor, " n"]:
    """Places from 0, evenly spaced over `count`, no more than `most`."""
    if most is None or most >= count:
        return torch.arange(count)
    return torch.arange(most) * count // most


# The names of splits that are known, and what each is called here.
SPLITS: Mapping[str, str] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip


def whole(source: str, parts: Mapping[str, Split], split: str | None, preparation: Preparation) -> Data:
    """A split of a set, checked: `split`, else test, else validation, else the first there is.

    Raises:
        UsageError: there is no such split. DataError: it is empty, or inputs and labels differ in number.
    """
    if not parts:
        raise DataError(f"'{source}' is empty.", _NEEDS_EXAMPLES)
    named = {SPLITS.get(name.lower(), name): part for name, part in parts.items()}
    parts = named if len(named) == len(parts) else parts
    usual = next(name for name in ("test", "validation", "", *parts) if name in parts)
    chosen = usual if split is None else SPLITS.get(split.lower(), split)
    if chosen not in parts:
        there = ", ".join(f"'{name}'" for name in parts if name)
        raise UsageError(
            f"'{source}' has no split '{split}'{', but ' + there if there else ''}.",
            "name one of them, or leave --split out." if there else "leave --split out.",
        )
    for name, part in parts.items():
        _check(source, name, part)
    return Data(source, chosen, parts, torch.arange(len(parts[chosen])), preparation)


def _check(source: str, split: str, part: Split) -> None:
    where = f"'{source}'{f' ({split})' if split else ''}"
    inputs, labels = (part.inputs, part.labels) if isinstance(part, Part) else (part, None)
    if isinstance(inputs, Tensor) and not inputs.ndim:
        raise DataError(f"{where} holds one number, not a row of inputs.", _NEEDS_EXAMPLES)
    if not len(inputs) or (isinstance(inputs, Tensor) and not inputs.numel()):
        raise DataError(f"{where} is empty.", _NEEDS_EXAMPLES)
    if labels is not None and (not labels.ndim or len(labels) != len(part)):
        count = len(labels) if labels.ndim else "no"
        raise DataError(f"{where} has {len(part)} inputs but {count} labels.", "every input needs its label.")


def _unlabelled(part: Split) -> bool:
    return isinstance(part, Part) and part.labels is None


def _is_finite(x: Tensor) -> bool:
    return not x.is_floating_point() or bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())
