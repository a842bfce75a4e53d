"""Files of `torch.save` from before PyTorch 1.6: pickles, one after the other, then the storages' bytes.

The pickles are a magic number, the version of the format, facts on the machine, the object itself, and the
keys of the storages in the order in which their bytes follow; each begins with its number of elements. The
same interpreter reads them as in newer files (see `pickle_machine`): nothing is run, no tensor is read.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from deepalign_cli.checkpoint.files import read_exactly
from deepalign_cli.checkpoint.info import Contents
from deepalign_cli.checkpoint.pickle_machine import PickleMachine
from deepalign_cli.checkpoint.pickle_values import Name, Storage
from deepalign_cli.checkpoint.problems import Forbidden, Malformed, shown
from deepalign_cli.checkpoint.pytorch_file import BIG_ENDIAN, MAX_PICKLE, infos_of
from deepalign_cli.checkpoint.state_dict import find_state_dict

MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_COUNT = 8  # bytes of the number before a storage


def read_old_pytorch(file: BinaryIO, path: Path, size: int, key: str | None = None) -> Contents:
    """What the file holds, in the order in which the state dict names it.

    Raises Malformed where the file is broken or not a plain checkpoint; Forbidden where it asks for
    code to be run, or is another pickle than torch.save writes.
    """
    pickles = _Pickles(file, size)
    if not pickles.starts_well():
        hint = "load it where you trust it, and save its state dict with torch.save, or as safetensors"
        raise Forbidden("it is a bare pickle, not a file that torch.save wrote", hint)
    machine = pickles.next()
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise Malformed(*BIG_ENDIAN)
    start = pickles.at
    sizes = _Measured()
    pickles.next(sizes)
    keys = pickles.next()
    offsets = _offsets(file, size, pickles.at, keys, sizes.of)
    pickles.at = start
    views, notes = find_state_dict(pickles.next(_Placed(offsets)), key)
    return Contents(tuple(infos_of(views, path)), ordered=True, notes=notes)


class _Pickles:
    """The pickles at the beginning of a file, together no longer than one may be."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._data = mmap.mmap(file.fileno(), min(size, MAX_PICKLE), access=mmap.ACCESS_READ)
        self.at = 0

    def starts_well(self) -> bool:
        """Whether the magic number and the version are there."""
        try:
            return self.next() == MAGIC and self.next() == _VERSION
        except Malformed:
            return False

    def next(self, persistent: _Measured | _Placed | None = None) -> object:
        """The value of the next pickle."""
        self._data.seek(self.at)
        value = PickleMachine(self._data, persistent or _no_storage).run()
        self.at = self._data.tell()
        return value


def _no_storage(pid: object) -> object:
    raise Malformed(f"its pickle refers to {shown(pid)} where no tensor belongs")


class _Measured:
    """Notes the element size and the number of elements of every storage; stands for empty ones."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[int, int]] = {}

    def __call__(self, pid: object) -> Storage:
        """A stand-in of the right size.

        Raises Malformed where one storage is said to be two.
        """
        kind, key, numel, view = _parse_id(pid)
        known = self.of.setdefault(key, (kind.itemsize, numel))
        if known[0] * known[1] != kind.itemsize * numel:
            raise Malformed(f"its pickle gives the storage {shown(key)} two sizes")
        return _part(Storage(kind.code, 0, numel * kind.itemsize, kind.unsupported), kind, view)


class _Placed:
    """Says which bytes of the file a persistent id stands for."""

    def __init__(self, offsets: Mapping[str, int]) -> None:
        self._offsets = offsets

    def __call__(self, pid: object) -> Storage:
        """The storage, or the part of one.

        Raises Malformed where the file does not hold it.
        """
        kind, key, numel, view = _parse_id(pid)
        if key not in self._offsets:
            raise Malformed(f"its pickle names the storage {shown(key)}, which the file does not hold")
        return _part(
            Storage(kind.code, self._offsets[key], numel * kind.itemsize, kind.unsupported), kind, view
        )


def _part(storage: Storage, kind: Name, view: object) -> Storage:
    """The part of a storage that a storage of its own stands for, where one does."""
    match view:
        case None:
            return storage
        case (str(), int(offset), int(numel)) if min(offset, numel) >= 0:
            begin, size = offset * kind.itemsize, numel * kind.itemsize
            if begin + size <= storage.nbytes:
                return Storage(storage.code, storage.offset + begin, size, storage.unsupported)
    raise Malformed("its pickle holds a part of a storage that does not lie within it")


def _parse_id(pid: object) -> tuple[Name, str, int, object]:
    match pid if isinstance(pid, tuple) else ():
        case (
            "storage", Name(itemsize=size) as kind, str(key), str(), int(numel), *view
        ) if size and numel >= 0 and len(view) <= 1 and type(numel) is not bool:  # fmt: skip
            return kind, key, numel, view[0] if view else None
    raise Malformed("its pickle holds a persistent id that is not a storage")


def _offsets(
    file: BinaryIO, size: int, at: int, keys: object, sizes: Mapping[str, tuple[int, int]]
) -> Mapping[str, int]:
    """Where each storage's bytes begin.

    Raises Malformed where the file ends before they do, or says another size than the pickle.
    """
    if not isinstance(keys, list):
        raise Malformed("it has no list of storages")
    offsets: dict[str, int] = {}
    for key in keys:
        if not isinstance(key, str) or key not in sizes or key in offsets:
            raise Malformed(f"its list of storages has {shown(key)}, which no tensor uses or which is twice")
        itemsize, numel = sizes[key]
        count = int.from_bytes(read_exactly(file, at, _COUNT, f"storage {shown(key)}"), "little")
        if count != numel:
            raise Malformed(f"its storage {shown(key)} has {count} elements where {shown(numel)} belong")
        at += _COUNT
        offsets[key] = at
        at += itemsize * numel
        if at > size:
            raise Malformed(f"the file ends inside storage {shown(key)}")
    return offsets
