"""Arrays by name, from .npz and .safetensors files, as splits of a data set."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.data.dataset import SPLITS, Contents, Part
from deepalign_cli.errors import DataError, one_line

_INPUTS = ("inputs", "input", "images", "image", "x", "data", "features", "tokens", "input_ids")
_LABELS = ("labels", "label", "targets", "target", "y")
_AS = {"u2": np.int32, "u4": np.int64, "u8": np.int64, "f16": np.float64}  # by NumPy's codes
_MOST_INFLATED = 200  # times the file's size, or ...
_ALWAYS_READ = 64 * 2**20  # ... this many bytes: a file that claims more may be a zip bomb
_HINT = "name its arrays inputs and labels (or images, x and y), or train_images, test_labels and so on."
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path) -> Contents:
    """The splits of an .npz file, and no metadata. Nothing in it is executed, and sizes are checked first.

    Raises:
        DataError: it is broken, or not a data set.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = [info for info in file.infolist() if info.filename.endswith(".npy")]
            _check_sizes(members, path.stat().st_size)
            names = [info.filename.removesuffix(".npy") for info in members]
            wanted = [(n, info) for n, info in zip(names, members, strict=True) if _place(n)[1]]
            arrays = {name: _read(file, info) for name, info in wanted}
    except Exception as error:  # zipfile, its decompressors and NumPy's parser raise a dozen kinds
        message = f"'{path}' is not an .npz file: {one_line(error)}."
        raise DataError(message, "write it with numpy.savez.") from None
    return _splits(arrays, names, path), {}


def read_tensors(path: Path) -> Contents:
    """The splits of a .safetensors file, and its metadata.

    Raises:
        CheckpointError: it is broken. DataError: it is not a data set.
    """
    file = open_checkpoint(path)
    wanted = {name: file[name] for name in file if _place(name)[1]}
    return _splits(wanted, list(file), path), file.metadata


def _check_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse members that would inflate without end; the sizes in the file are only claims."""
    claimed = sum(info.file_size for info in members)
    if claimed > max(_ALWAYS_READ, _MOST_INFLATED * size):
        raise ValueError(f"its {size:,} bytes claim to hold {claimed:,}")
    if len({info.filename for info in members}) < len(members):
        raise ValueError("two of its arrays have the same name")


def _read(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Tensor:
    shape, dtype = _header(file, info)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biuf":
        raise ValueError(f"'{info.filename}' holds {dtype}, not numbers")
    if min(shape, default=0) < 0 or size > info.file_size:
        raise ValueError(f"'{info.filename}' claims {size:,} bytes, which it does not hold")
    with file.open(info) as stream:
        return as_tensor(np.lib.format.read_array(stream, allow_pickle=False))


def as_tensor(array: np.ndarray) -> Tensor:
    """Numbers as a tensor; unsigned ones of more than 8 bits, which torch hardly supports, as signed.

    Raises:
        ValueError: they are not numbers.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{array.dtype} is not a type of numbers")
    array = array.astype(_AS.get(array.dtype.str[1:], array.dtype.newbyteorder("=")), copy=False)
    return torch.from_numpy(np.require(array, requirements=("C", "W")))


def _header(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    with file.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format is unknown")
        shape, _, dtype = _HEADERS[version](stream)
    return shape, dtype


def _splits(arrays: Mapping[str, Tensor], names: list[str], path: Path) -> Mapping[str, Part]:
    """The arrays as splits: `train_images`, `x_train`, `train/inputs`, or `inputs` alone.

    `names` are all that the file holds; other arrays than inputs and labels are not read.
    """
    placed: dict[tuple[str, str | None], Tensor] = {}
    for name, array in arrays.items():
        split, role = place = _place(name)
        if place in placed:
            raise DataError(f"'{path}' holds the {role} of '{split or 'all'}' twice.", "leave one out.")
        placed[place] = as_labels(array) if role == "labels" else array
    parts = {s: Part(x, placed.get((s, "labels"))) for (s, role), x in placed.items() if role == "inputs"}
    if not parts:
        listed = ", ".join(map(repr, names[:6])) or "nothing"
        raise DataError(f"'{path}' is not a data set: it holds {listed}.", _HINT)
    return parts


def _place(name: str) -> tuple[str, str | None]:
    """The split and the role (inputs or labels, else None) that an array's name tells."""
    words = re.split(r"[/._ -]", name.lower())
    split = next((word for word in words if word in SPLITS), "")
    rest = "_".join(word for word in words if word != split)
    role = "inputs" if rest in _INPUTS else "labels" if rest in _LABELS else None
    return SPLITS.get(split, ""), role


def as_labels(labels: Tensor) -> Tensor:
    """Labels as floating point or int64; of shape [n, 1] as [n] where they are whole numbers."""
    if labels.is_floating_point():
        return labels
    labels = labels.long()
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
