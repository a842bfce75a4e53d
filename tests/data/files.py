"""Data sets on disk for the tests."""

import io
import zipfile
from pathlib import Path

import numpy as np


def npy(array, header=None, *, allow_pickle=False):
    """The bytes of an .npy file, perhaps with another header than the array's own."""
    stream = io.BytesIO()
    if header is None:
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=allow_pickle)
    else:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(np.asarray(array).tobytes())
    return stream.getvalue()


def npz(path: Path, members, compression=zipfile.ZIP_STORED) -> Path:
    """An .npz file of members of these bytes."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def picture_folder(folder: Path, classes=("cat", "dog"), each=3, size=(5, 4), mode="L", ending="png") -> Path:
    """folder/class/k.png, image k of class c all of brightness 40 c + k."""
    from PIL import Image

    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for k in range(each):
            value = 40 * c + k
            Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(
                folder / name / f"{k}.{ending}"
            )
    return folder
