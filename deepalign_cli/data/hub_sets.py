"""Image sets of the Hugging Face Hub through `datasets`: `hf:NAME[:CONFIG]`, or a folder in its format."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.checkpoint.hub import is_offline
from deepalign_cli.data.arrays import as_labels, as_tensor
from deepalign_cli.data.dataset import Contents, Inputs, Part
from deepalign_cli.data.image_folder import Opener, Pictures
from deepalign_cli.errors import DataError, UsageError, one_line
from deepalign_cli.extras import require

_NUMBERS = ("int", "uint", "float")
_IMAGES = ("image", "img")
_LABELS = ("label", "labels", "target", "fine_label", "y")
_INPUTS = ("inputs", "x", "input_ids", "features", "pixel_values")
_OWN = "load it in your own code: --data file.py:factory, where factory() returns (inputs, labels)."


@dataclass(frozen=True)
class Rows:
    """A column of numbers of a `datasets.Dataset`; rows are fetched when they are read."""

    rows: Any
    column: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Shaped[Tensor, " b"]) -> Shaped[Tensor, "b ..."]:
        """Some rows.

        Raises:
            DataError: they differ in shape.
        """
        return _numbers(self.rows[rows.tolist()][self.column], self.column)


def read_hub(rest: str) -> Contents:
    """The splits of a data set. Code that comes with it is not run.

    Raises:
        UsageError: there is no such set. DataError: it could not be loaded, or holds no images or numbers.
        MissingExtra: datasets or Pillow is not installed.
    """
    name = f"hf:{rest}"
    datasets: Any = require("datasets", "data", name)
    loaded = _load(datasets, rest, name)
    splits = loaded if isinstance(loaded, dict) else {"": loaded}
    return {str(split): _part(datasets, rows, name) for split, rows in splits.items()}, {}


def _load(datasets: Any, rest: str, name: str) -> Any:
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False  # releases before 4 would ask, or run it
    datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE or is_offline()
    place, _, config = rest.removeprefix("//").partition(":")
    if not place:
        raise UsageError(f"'{name}' names no data set.", "write hf:NAME, hf:NAME:CONFIG or hf:FOLDER.")
    saved = any((Path(place) / file).is_file() for file in ("dataset_dict.json", "state.json"))
    try:
        return datasets.load_from_disk(place) if saved else datasets.load_dataset(place, config or None)
    except FileNotFoundError as error:  # what DatasetNotFoundError is, too
        message = f"there is no data set '{name}': {one_line(error)}."
        raise UsageError(message, "check its name on the Hub.") from None
    except Exception as error:  # the network, the Hub, Arrow and many file formats
        raise DataError(
            f"'{name}' could not be loaded: {one_line(error)}.",
            "check that datasets.load_dataset loads it; hf:NAME:CONFIG names a configuration.",
        ) from None


def _part(datasets: Any, rows: Any, name: str) -> Part:
    features = rows.features
    pictures = [column for column in features if isinstance(features[column], datasets.Image)]
    numbers = [column for column in features if _is_numeric(features[column])]
    column = _one(pictures, _IMAGES, name) or next((c for c in _INPUTS if c in numbers), None)
    if column is None:
        raise DataError(f"'{name}' has no column of images or numbers, only {_listed(features)}.", _OWN)
    inputs: Inputs = Rows(rows.with_format("numpy", columns=[column]), column)
    if column in pictures:
        encoded = rows.cast_column(column, datasets.Image(decode=False))
        inputs = Pictures(len(rows), _opener(encoded, column), require("PIL.Image", "data", name))
    classes = [column for column in features if isinstance(features[column], datasets.ClassLabel)]
    labels = _one(classes, _LABELS, name) or next((c for c in _LABELS if c in numbers), None)
    answers = None if labels is None else as_labels(_numbers(rows.with_format(None)[labels][:], labels))
    return Part(inputs, answers)


def _opener(rows: Any, column: str) -> Opener:
    def opener(row: int) -> tuple[Path | BytesIO, str]:
        cell = rows[row][column]
        if cell is None:
            raise DataError(f"row {row} of '{column}' holds no image.", "leave such rows out.")
        file = Path(cell["path"]) if cell["bytes"] is None else BytesIO(cell["bytes"])
        return file, f"row {row} of '{column}'"

    return opener


def _one(columns: list[str], usual: tuple[str, ...], name: str) -> str | None:
    """The column, or of several the one with a usual name. Raises DataError where none has one."""
    if len(columns) < 2:
        return columns[0] if columns else None
    chosen = next((column for column in usual if column in columns), None)
    if chosen is None:
        raise DataError(f"'{name}' has several columns to choose from: {_listed(columns)}.", _OWN)
    return chosen


def _is_numeric(feature: Any) -> bool:
    """Whether a column holds numbers, or (nested) lists of them."""
    while not hasattr(feature, "dtype") or feature.dtype == "list":
        inner = getattr(feature, "feature", None)
        if inner is None:
            return False
        feature = inner
    return str(feature.dtype).startswith(_NUMBERS)


def _numbers(rows: Any, column: str) -> Shaped[Tensor, "b ..."]:
    try:
        return as_tensor(np.asarray(rows))
    except ValueError:
        raise DataError(f"the rows of '{column}' are not all numbers of one shape.", _OWN) from None


def _listed(columns: Any) -> str:
    return ", ".join(f"'{column}'" for column in columns) or "none"
