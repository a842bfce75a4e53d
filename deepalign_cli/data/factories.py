"""Data that the user's own Python makes: `file.py:factory` or `package.module:factory`. It is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from deepalign_cli.data.arrays import as_labels, as_tensor
from deepalign_cli.data.dataset import Contents, Part, Split
from deepalign_cli.errors import DataError, UsageError
from deepalign_cli.user_code import call_factory, guarded

_HINT = (
    "data are (inputs, labels) as arrays or tensors, a torch Dataset or DataLoader, or a dict of such: "
    '{"train": ..., "test": ...}.'
)
_CALL = f"--data path/to/file.py:factory calls factory(): {_HINT}"


@dataclass(frozen=True)
class Items:
    """A split that is a torch Dataset of (input, label) or of inputs; items are fetched as they are read."""

    items: Any
    reference: str

    def __len__(self) -> int:
        return len(self.items)

    def read(
        self, rows: Shaped[Tensor, " b"]
    ) -> tuple[Shaped[Tensor, "b ..."], Shaped[Tensor, "b ..."] | None]:
        """Some items as one batch.

        Raises:
            DeepalignError: the user's code raised. DataError: the items are no numbers, or not of one shape.
        """
        found: Any = guarded(lambda: [self.items[row] for row in rows.tolist()], self.reference)
        if not all(isinstance(item, tuple | list) for item in found):
            return self._stacked(found, "inputs"), None
        if all(len(item) == 1 for item in found):
            return self._stacked([x for (x,) in found], "inputs"), None
        if any(len(item) != 2 for item in found):
            raise DataError(
                f"an item of '{self.reference}' is not (input, label).", "return pairs, or inputs alone."
            )
        labels = as_labels(self._stacked([y for _, y in found], "labels"))
        return self._stacked([x for x, _ in found], "inputs"), labels

    def _stacked(self, found: list[Any], what: str) -> Shaped[Tensor, "b ..."]:
        tensors = [_array(item, self.reference) for item in found]
        if len({(t.shape, t.dtype) for t in tensors}) > 1:
            raise DataError(
                f"the {what} of '{self.reference}' are not all of one shape and type.",
                "transform them to one, in the Dataset.",
            )
        return torch.stack(tensors)


def read_factory(source: str) -> Contents:
    """What the factory returns, as splits.

    Raises:
        UsageError: there is no such factory, or it returns something else.
        DeepalignError: the user's code raised. DataError: it returns no numbers.
    """
    return splits_of(call_factory(source, {}, _CALL), source), {}


def splits_of(data: object, source: str) -> dict[str, Split]:
    """Arrays, a Dataset, a DataLoader, or a dict of such by the names of splits, which `source` provides.

    Raises:
        UsageError: it is something else. DataError: it holds no numbers.
    """
    if not isinstance(data, Mapping):
        return {"": _split(data, source)}
    if not data or not all(isinstance(name, str) and name for name in data):
        raise UsageError(f"'{source}' is a dict without names of splits.", _HINT)
    return {name: _split(value, source) for name, value in data.items()}


def _split(made: object, source: str) -> Split:
    if isinstance(made, DataLoader):
        return _loaded(made, source)
    if isinstance(made, Tensor | np.ndarray):
        return Part(_array(made, source), None)
    if isinstance(made, tuple | list):
        if len(made) != 2:
            raise UsageError(f"'{source}' gives {len(made)} things, not (inputs, labels).", _HINT)
        x, y = made
        return Part(_array(x, source), None if y is None else as_labels(_array(y, source)))
    if not isinstance(made, str | bytes) and _has(made, "__getitem__") and _has(made, "__len__"):
        return Items(made, source)
    raise UsageError(f"'{source}' gives {type(made).__name__}, not data.", _HINT)


def _loaded(loader: DataLoader[Any], source: str) -> Split:
    """The examples of a loader: its data set where it only batches that, else all batches, put together."""
    items: Any = loader.dataset
    sampler: Any = loader.sampler
    is_plain = loader.collate_fn is default_collate and loader.batch_size is not None
    if is_plain and isinstance(sampler, SequentialSampler | RandomSampler) and len(sampler) == len(items):
        return Items(items, source)
    batches: Any = guarded(lambda: list(loader), source)
    pairs = [batch if isinstance(batch, tuple | list) else (batch,) for batch in batches]
    if {len(pair) for pair in pairs} not in ({1}, {2}):
        raise DataError(f"the batches of '{source}' are not (inputs, labels).", _HINT)
    sides = [[_array(part, source) for part in side] for side in zip(*pairs, strict=True)]
    joined: Any = guarded(lambda: [torch.cat(side) for side in sides], source)
    x, *labels = joined
    return Part(x, as_labels(labels[0]) if labels else None)


def _has(thing: object, name: str) -> bool:
    return callable(getattr(type(thing), name, None))


def _array(value: object, source: str) -> Shaped[Tensor, ...]:
    """An array, a list, a number or a picture as a tensor in memory."""
    try:
        if isinstance(value, Tensor):
            return value.detach().cpu()
        return as_tensor(np.asarray(value))
    except (ValueError, TypeError, RuntimeError):
        raise DataError(f"'{source}' gives {type(value).__name__} where numbers are to be.", _HINT) from None
