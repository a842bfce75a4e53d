"""Files of `torch.save`: a zip file of one pickle, which describes tensors, and their bytes.

Nothing in the pickle is run (see `pickle_machine`), and no tensor is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from deepalign_cli.checkpoint import foreign
from deepalign_cli.checkpoint.info import Contents, TensorInfo
from deepalign_cli.checkpoint.pickle_machine import PickleMachine
from deepalign_cli.checkpoint.pickle_values import Name, Storage, View
from deepalign_cli.checkpoint.problems import Malformed, shown
from deepalign_cli.checkpoint.state_dict import find_state_dict
from deepalign_cli.checkpoint.zip_index import Member, locate, read_member, read_zip_index

MAX_PICKLE = 64 * 2**20


BIG_ENDIAN = ("its numbers are not little-endian", "save it again on a little-endian machine")


def read_pytorch(file: BinaryIO, path: Path, size: int, key: str | None = None) -> Contents:
    """What the file holds, in the order in which the state dict names it; `key` says which one, of several.

    Raises Malformed where the file is broken or not a plain checkpoint; Forbidden where it asks for
    code to be run.
    """
    members = read_zip_index(file, size)
    root = _root(members)
    _check_byte_order(file, members.get(f"{root}byteorder"))
    storages = _Storages(file, members, root)
    pickle = read_member(file, members[f"{root}data.pkl"], MAX_PICKLE)
    views, notes = find_state_dict(PickleMachine(pickle, storages).run(), key)
    return Contents(tuple(infos_of(views, path)), ordered=True, notes=notes)


def _root(members: Mapping[str, Member]) -> str:
    """The folder inside the zip file, with its slash."""
    if known := foreign.by_members(members):
        raise Malformed(*known)
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        hint = "give a file that torch.save wrote, or a safetensors file"
        raise Malformed("it is a zip file, but not one that torch.save wrote", hint)
    return roots[0]


def _check_byte_order(file: BinaryIO, member: Member | None) -> None:
    if member is not None and read_member(file, member, 16) != b"little":
        raise Malformed(*BIG_ENDIAN)


class _Storages:
    """Says which bytes of the file a persistent id of the pickle stands for."""

    def __init__(self, file: BinaryIO, members: Mapping[str, Member], root: str) -> None:
        self._file, self._members, self._root = file, members, root
        self._offsets: dict[str, int] = {}

    def __call__(self, pid: object) -> Storage:
        """The storage, checked against the zip file.

        Raises Malformed where the id is not of the form that torch.save writes.
        """
        kind, key, numel = _parse_id(pid)
        member = self._members.get(f"{self._root}data/{key}")
        if member is None:
            raise Malformed(f"its pickle names the storage {shown(key)}, which the file does not hold")
        size = numel * kind.itemsize
        if size > member.size:
            raise Malformed(f"its storage {shown(key)} has {member.size} bytes where {shown(size)} belong")
        if key not in self._offsets:
            self._offsets[key] = locate(self._file, member)
        return Storage(kind.code, self._offsets[key], size, kind.unsupported)


def _parse_id(pid: object) -> tuple[Name, str, int]:
    match pid if isinstance(pid, tuple) else ():
        case ("storage", Name(itemsize=size) as kind, str(key), str(), int(numel)) if size and numel >= 0:
            if type(numel) is not bool:
                return kind, key, numel
    raise Malformed("its pickle holds a persistent id that is not a storage")


def infos_of(views: Mapping[str, View], path: Path) -> list[TensorInfo]:
    """What there is to know of every tensor; those that are one view of one storage are tied."""
    first: dict[View, str] = {}
    infos = []
    for name, view in views.items():
        same = name if 0 in view.shape else first.setdefault(view, name)
        tied = None if same == name else same
        infos.append(TensorInfo(name, name, view.code, view.shape, tied, path, view.offset, view.strides))
    return infos
