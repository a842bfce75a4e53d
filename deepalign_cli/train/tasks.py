"""What zoo networks are trained on: images with labels, an image as a function of places, text."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from deepalign_cli.data.preparation import Preparation, channels_first
from deepalign_cli.errors import UsageError
from deepalign_cli.integers import check_integers
from deepalign_cli.train.texts import characters_of, in_rows, text_of

_HINT = "--data names a folder with NAME.npz: train_images, train_labels, test_images, test_labels (uint8)."
_TEXT_HINT = "it is cut in blocks of 10,000 characters, every tenth of which is for testing."


@dataclass(frozen=True)
class Task:
    """A data set by name, and how its images are read.

    `side` is the side of the images after mean-pooling; `images` and `test` how many are taken, evenly
    spaced. A `field` is not classification: network k of a family learns training image k as a map from
    pixel coordinates in [-1, 1] to brightness in [-1, 1]. With a `context` above 0 the data are text, read in
    rows of so many characters, after each of which comes one that is to be told.
    """

    data: str
    side: int = 28
    grey: bool = True
    images: int = 20000
    test: int = 2000
    field: bool = False
    context: int = 0

    def __post_init__(self) -> None:
        check_integers(self, {"side": 1, "images": 1, "test": 1, "context": 0})
        if self.field and not self.grey:
            raise ValueError("a field has brightness only: field = true needs grey = true")
        if self.field and self.context:
            raise ValueError("a field is no text: leave field or context out")


@dataclass(frozen=True)
class Examples:
    """Inputs and answers, for training and for testing.

    The answers are labels (one an example); for a field, values (a row of all examples for each image); for
    text, the character after each. Images are pixels in [0, 1] less `mean` over `deviation`.
    """

    train_x: Shaped[Tensor, "n ..."]
    train_y: Shaped[Tensor, ...]
    test_x: Shaped[Tensor, "m ..."]
    test_y: Shaped[Tensor, ...]
    mean: float = 0.0
    deviation: float = 1.0

    def on(self, device: torch.device) -> Examples:
        """The same on a device."""
        return replace(
            self, train_x=self.train_x.to(device), train_y=self.train_y.to(device),
            test_x=self.test_x.to(device), test_y=self.test_y.to(device),
        )  # fmt: skip


def load_examples(task: Task, folder: Path) -> Examples:
    """Read a task's examples from `folder`, normalised by the training pixels' mean and deviation.

    Raises:
        UsageError: there is no such data set, its images are smaller than `side` or lack the colours, or its
            text is too short.
    """
    if task.context:
        return _text(task, folder)
    path = folder / f"{task.data}.npz"
    try:
        with path.open("rb") as file, np.load(file) as stored:
            arrays = {key: stored[key] for key in stored.files}
        train, labels = _some(arrays["train_images"], arrays["train_labels"], task.images)
        test, test_labels = _some(arrays["test_images"], arrays["test_labels"], task.test)
    except FileNotFoundError:
        raise UsageError(f"there is no data set '{path}'.", _HINT) from None
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"'{path}' is not a data set: {error}.", _HINT) from None
    x, test_x = (_images(part, task) for part in (train, test))
    if task.field:
        return _field(x)
    mean, deviation = x.mean(), x.std()
    x, test_x = ((part - mean) / deviation for part in (x, test_x))
    return Examples(x, labels.long(), test_x, test_labels.long(), float(mean), float(deviation))


def _some(images: np.ndarray, labels: np.ndarray, count: int) -> tuple[Tensor, Tensor]:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"images of {images.dtype}, {list(images.shape)}, cannot be read")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"there are {len(images)} images but labels of shape {list(labels.shape)}")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError("the labels are not integers from 0")
    step = max(1, len(images) // count)
    return torch.from_numpy(images[::step][:count]), torch.from_numpy(labels[::step][:count])


def _images(raw: Tensor, task: Task) -> Float[Tensor, "n colours side side"]:
    """Brightness in [0, 1], pooled to the task's side."""
    x = channels_first(raw)
    if not task.grey and x.shape[1] != 3:
        raise UsageError(f"the images of '{task.data}' have no colours.", "leave grey = false out.")
    if min(x.shape[-2:]) < task.side:
        raise UsageError(f"the images of '{task.data}' are smaller than side {task.side}.", _HINT)
    prepared: Tensor = Preparation(task.side, task.grey)(x)
    return prepared


def _field(images: Float[Tensor, "n 1 side side"]) -> Examples:
    """Coordinates of the pixels, shared by all; one row of brightness an image."""
    line = torch.linspace(-1, 1, images.shape[-1])
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    values = images.flatten(1) * 2 - 1
    return Examples(places, values, places, values)


def _text(task: Task, folder: Path) -> Examples:
    """Rows of characters, and of those that come next."""
    parts = in_rows(characters_of(text_of(task.data, folder)), task.context + 1)
    train, test = (_evenly(rows, count) for rows, count in zip(parts, (task.images, task.test), strict=True))
    if not len(train) or not len(test):
        raise UsageError(f"the text '{task.data}' is too short for a context of {task.context}.", _TEXT_HINT)
    return Examples(train[:, :-1], train[:, 1:], test[:, :-1], test[:, 1:])


def _evenly(rows: Int64[Tensor, "n t"], count: int) -> Int64[Tensor, "m t"]:
    return rows[:: max(1, len(rows) // count)][:count]
