"""Folders of images, one folder a class: folder/[split/]class/image.png. Read batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from deepalign_cli.data.dataset import SPLITS, Contents, Part, spaced
from deepalign_cli.errors import DataError, one_line
from deepalign_cli.extras import require

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_LOOKED_AT = 50  # images, to know whether all are grey
_MOST_PIXELS = 50_000_000  # of one image: one that claims more may be a decompression bomb
_HINT = (
    "arrange it as folder/class/image.png, or folder/train/class/image.png and folder/test/class/image.png; "
    "for a folder of the datasets library write hf:FOLDER."
)


# Opens the image in a row: a path or a file, and its name for messages.
Opener = Callable[[int], tuple[Path | BytesIO, str]]


@dataclass(frozen=True)
class Pictures:
    """Image files of one size as uint8 [b, h, w] (grey) or [b, h, w, 3]; nothing is kept in memory."""

    count: int
    opener: Opener
    pillow: ModuleType

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Shaped[Tensor, " b"]) -> UInt8[Tensor, "b h w *colours"]:
        """Read some of the images; grey ones among colours get three equal channels.

        Raises:
            DataError: one is broken, or is not like the others.
        """
        return torch.from_numpy(np.stack([self._fitting(row) for row in rows.tolist()]))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of every image: the size of the first; grey where all of some evenly spaced ones are."""
        images = [self._read(row)[0] for row in spaced(self.count, _LOOKED_AT).tolist()]
        colours = (3,) if any(image.ndim == 3 for image in images) else ()
        return *images[0].shape[:2], *colours

    def _fitting(self, row: int) -> UInt8[np.ndarray, "h w *colours"]:
        image, name = self._read(row)
        if image.ndim < len(self.shape):
            image = np.repeat(image[..., None], 3, axis=2)
        if image.shape == self.shape:
            return image
        if image.shape[:2] == self.shape[:2]:
            raise DataError(f"{name} has colours, but others are grey.", "convert all to one of the two.")
        (h, w), first = image.shape[:2], self.opener(0)[1]
        raise DataError(
            f"the images differ in size: {first} is {self.shape[1]}x{self.shape[0]}, {name} is {w}x{h}.",
            "resize them all to the same size first.",
        )

    def _read(self, row: int) -> tuple[UInt8[np.ndarray, "h w *colours"], str]:
        file, name = self.opener(row)
        return read_image(self.pillow, file, name), name


def read_images(folder: Path) -> Contents:
    """The splits of a folder; the classes are numbered in the order of their sorted names.

    Raises:
        DataError: there are no images, splits differ in classes, or images in size.
        MissingExtra: Pillow is not installed.
    """
    splits = {f.name.lower(): f for f in _folders(folder) if f.name.lower() in SPLITS} or {"": folder}
    classes = {place: [f.name for f in _folders(place) if _images(f)] for place in splits.values()}
    for place, own_classes in classes.items():
        if not own_classes:
            raise DataError(f"'{place}' holds no folders of images.", _HINT)
    names = sorted(set().union(*classes.values()))
    pillow = require("PIL.Image", "data", "a folder of images")
    return {split: _part(place, names, pillow) for split, place in splits.items()}, {}


def _part(folder: Path, classes: list[str], pillow: ModuleType) -> Part:
    images = [(path, label) for label, name in enumerate(classes) for path in _images(folder / name)]
    paths, labels = [path for path, _ in images], torch.tensor([label for _, label in images])
    return Part(Pictures(len(paths), lambda row: (paths[row], f"'{paths[row]}'"), pillow), labels)


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in _listing(folder) if f.is_dir() and not f.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    files = _listing(folder) if folder.is_dir() else ()
    return sorted(f for f in files if f.suffix.lower() in _ENDINGS and not f.name.startswith("."))


def _listing(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"'{folder}' cannot be read: {error.strerror}.", "check its permissions.") from None


def read_image(pillow: Any, file: Path | BytesIO, name: str) -> UInt8[np.ndarray, "h w *colours"]:
    """One image file, decoded by `pillow` (PIL.Image) after its size was checked.

    Raises:
        DataError: it is broken, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the guard against bombs is the size, checked before decoding
            with pillow.open(file) as image:
                return pixels(image)
    except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
        message = f"{name} is not a readable image: {one_line(error)}."
        raise DataError(message, "remove or replace it.") from None


def pixels(image: Any) -> UInt8[np.ndarray, "h w *colours"]:
    """A Pillow image, decoded: [h, w] where it is grey, else [h, w, 3].

    Raises:
        ValueError: it is too large, or has more than 8 bits a pixel.
    """
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(f"it has {image.width * image.height:,} pixels, more than {_MOST_PIXELS:,}")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels have more than 8 bits ({image.mode})")
    grey = image.mode in ("1", "L", "LA")
    return np.asarray(image.convert("L" if grey else "RGB"))
