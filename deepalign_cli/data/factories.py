"""Data from the user's own Python, which is run: `file.py:factory` or `package.module:factory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from deepalign_cli.data.arrays import as_labels, as_tensor
from deepalign_cli.data.dataset import Contents, Examples, Part, Split
from deepalign_cli.errors import DataError, UsageError
from deepalign_cli.user_code import call_factory, guarded

_HINT = (
    "give (inputs, labels) as arrays or tensors, a torch Dataset or DataLoader, or a dict of splits: "
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

    def read(self, rows: Shaped[Tensor, " b"]) -> Examples:
        """Some items as one batch.

        Raises:
            DeepalignError: the user's code raised. DataError: the items are not numbers, or differ in shape.
        """
        items: Any = guarded(lambda: [self.items[row] for row in rows.tolist()], self.reference)
        if not all(isinstance(item, tuple | list) for item in items):
            return self._stacked(items, "inputs"), None
        sizes = {len(item) for item in items}
        if sizes not in ({1}, {2}):
            message = f"an item of '{self.reference}' is not (input, label)."
            raise DataError(message, "return pairs, or inputs alone.")
        inputs, *labels = zip(*items, strict=True)
        answers = as_labels(self._stacked(labels[0], "labels")) if labels else None
        return self._stacked(inputs, "inputs"), answers

    def _stacked(self, items: Sequence[Any], what: str) -> Shaped[Tensor, "b ..."]:
        tensors = [_array(item, self.reference) for item in items]
        if len({(t.shape, t.dtype) for t in tensors}) > 1:
            raise DataError(
                f"the {what} of '{self.reference}' differ in shape or type.",
                "let the Dataset transform them to one shape and type.",
            )
        return torch.stack(tensors)


def read_factory(source: str) -> Contents:
    """What the factory returns, as splits.

    Raises:
        UsageError: there is no such factory, or it returns something else.
        DeepalignError: the user's code raised. DataError: it does not return numbers.
    """
    return splits_of(call_factory(source, {}, _CALL), source), {}


def splits_of(data: object, source: str) -> dict[str, Split]:
    """Arrays, a Dataset, a DataLoader, or a dict of these by the names of splits, as returned by `source`.

    Raises:
        UsageError: it is something else. DataError: it does not hold numbers.
    """
    if not isinstance(data, Mapping):
        return {"": _split(data, source)}
    if not data or not all(isinstance(name, str) and name for name in data):
        raise UsageError(f"'{source}' is a dict without names of splits.", _HINT)
    return {name: _split(value, source) for name, value in data.items()}


def _split(data: object, source: str) -> Split:
    if isinstance(data, DataLoader):
        return _loaded(data, source)
    if isinstance(data, Tensor | np.ndarray):
        return Part(_array(data, source), None)
    if isinstance(data, tuple | list):
        if len(data) != 2:
            raise UsageError(f"'{source}' gives {len(data)} things, not (inputs, labels).", _HINT)
        x, y = data
        return Part(_array(x, source), None if y is None else as_labels(_array(y, source)))
    if not isinstance(data, str | bytes) and _has(data, "__getitem__") and _has(data, "__len__"):
        return Items(data, source)
    raise UsageError(f"'{source}' gives {type(data).__name__}, not data.", _HINT)


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


def _has(value: object, method: str) -> bool:
    return callable(getattr(type(value), method, None))


def _array(value: object, source: str) -> Shaped[Tensor, " ..."]:
    """An array, a list, a number or a picture as a tensor in memory."""
    try:
        if isinstance(value, Tensor):
            return value.detach().cpu()
        return as_tensor(np.asarray(value))
    except (ValueError, TypeError, RuntimeError):
        raise DataError(f"'{source}' gives {type(value).__name__}, not numbers.", _HINT) from None
