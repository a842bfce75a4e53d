"""Folders of images, one folder a class: folder/[split/]class/image.png. Read batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from deepalign_cli.errors import DataError
from deepalign_cli.evaluate.data.data import SPLITS, Contents, Part
from deepalign_cli.extras import require

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_MOST_PIXELS = 50_000_000  # of one image: what claims more is taken for a decompression bomb
_HINT = (
    "it takes folder/class/image.png, or folder/train/class/image.png and folder/test/class/image.png; "
    "a folder of the datasets library is hf:FOLDER."
)


@dataclass(frozen=True)
class ImageFiles:
    """Image files as uint8 [b, h, w] (all are grey) or [b, h, w, 3]; nothing is kept in memory."""

    paths: tuple[Path, ...]
    pillow: ModuleType

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Shaped[Tensor, " b"]) -> UInt8[Tensor, "b h w *colours"]:
        """Read some of the images.

        Raises:
            DataError: one is broken, or they differ in size.
        """
        paths = [self.paths[row] for row in rows.tolist()]
        names = [f"'{path}'" for path in paths]
        return stacked(
            [read_image(self.pillow, p, name) for p, name in zip(paths, names, strict=True)], names
        )


def read_images(folder: Path) -> Contents:
    """The splits of a folder; the classes are numbered in the order of their sorted names.

    Raises:
        DataError: there are no images, splits differ in classes, or images in size.
        MissingExtra: Pillow is not installed.
    """
    splits = {f.name.lower(): f for f in _folders(folder) if f.name.lower() in SPLITS} or {"": folder}
    classes = {name: [f.name for f in _folders(place) if _images(f)] for name, place in splits.items()}
    if not all(classes.values()):
        place = next(splits[name] for name, found in classes.items() if not found)
        raise DataError(f"'{place}' holds no folders of images.", _HINT)
    names = sorted({name for found in classes.values() for name in found})
    pillow = require("PIL.Image", "data", "a folder of images")
    return {split: _part(place, names, pillow) for split, place in splits.items()}, {}


def _part(folder: Path, classes: list[str], pillow: ModuleType) -> Part:
    found = [(path, label) for label, name in enumerate(classes) for path in _images(folder / name)]
    labels = torch.tensor([label for _, label in found])
    return Part(ImageFiles(tuple(path for path, _ in found), pillow), labels)


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in _listing(folder) if f.is_dir() and not f.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (f for f in _listing(folder) if f.suffix.lower() in _ENDINGS and not f.name.startswith("."))
    return sorted(found)


def _listing(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"'{folder}' cannot be read: {error.strerror}.", "see its permissions.") from None


def read_image(pillow: Any, file: Path | BinaryIO, name: str) -> UInt8[np.ndarray, "h w *colours"]:
    """One image file, decoded by `pillow` (PIL.Image) after a look at its size.

    Raises:
        DataError: it is broken, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the guard against bombs is the size, checked before decoding
            with pillow.open(file) as image:
                return pixels(image)
    except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
        problem = " ".join(str(error).split()).removesuffix(".")
        raise DataError(f"{name} is no image that can be read: {problem}.", "remove or replace it.") from None


def pixels(image: Any) -> UInt8[np.ndarray, "h w *colours"]:
    """A Pillow image, decoded: [h, w] where it is grey, else [h, w, 3].

    Raises:
        ValueError: it is too large, or has more than 8 bits a pixel.
    """
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(f"it has {image.width * image.height:,} pixels, more than {_MOST_PIXELS:,}")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are of more than 8 bits ({image.mode})")
    grey = image.mode in ("1", "L", "LA")
    return np.asarray(image.convert("L" if grey else "RGB"))


def stacked(images: list[np.ndarray], names: list[str]) -> UInt8[Tensor, "b h w *colours"]:
    """Images as one batch; grey ones among colours get three equal channels.

    Raises:
        DataError: they differ in size.
    """
    if any(image.ndim == 3 for image in images):
        images = [i if i.ndim == 3 else np.repeat(i[..., None], 3, axis=2) for i in images]
    odd = next((k for k, image in enumerate(images) if image.shape != images[0].shape), None)
    if odd is not None:
        (h, w), (other_h, other_w) = images[0].shape[:2], images[odd].shape[:2]
        raise DataError(
            f"the images differ in size: {names[0]} is {w}x{h}, {names[odd]} is {other_w}x{other_h}.",
            "resize them to one size first.",
        )
    return torch.from_numpy(np.stack(images))
