"""`Checkpoint`: a mapping from names to tensors that reads each one when it is asked for, and keeps none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from deepalign_cli.checkpoint.files import Stamp, open_unchanged
from deepalign_cli.checkpoint.hashing import begin_hashing, sha256_of_files
from deepalign_cli.checkpoint.info import Contents, TensorInfo
from deepalign_cli.checkpoint.names import common_prefix, logical_names
from deepalign_cli.checkpoint.problems import Malformed, blame, shown
from deepalign_cli.checkpoint.reading import read_flat, read_tensor
from deepalign_cli.checkpoint.strict_json import parse_json

if TYPE_CHECKING:
    from torch import Tensor

TIED = "deepalign.tied"

if TYPE_CHECKING:
    _Base = Mapping[str, Tensor]
else:
    _Base = Mapping


class Checkpoint(_Base):
    """An open checkpoint; `checkpoint[name]` reads that tensor and nothing else.

    Names are logical: `prefix`, what stood before all of them in the file, and the `_orig_mod.` of compiled
    submodules are left out. `ordered` says whether their
    order means anything, as it does in a state dict. `notes` are for the user to see. `origin` is the
    reference to the Hugging Face Hub, with the commit, that it was fetched by.
    """

    def __init__(
        self,
        path: Path,
        contents: Contents,
        stamps: Mapping[Path, Stamp],
        config: Mapping[str, object],
        notes: Iterable[str] = (),
        origin: str | None = None,
    ) -> None:
        with blame(path):
            prefix, infos = _named(contents)
        self.path = path
        self.origin = origin
        self.files = tuple(stamps)
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(infos)
        self.metadata: Mapping[str, str] = MappingProxyType(dict(contents.metadata))
        self.prefix = prefix
        self.ordered = contents.ordered
        self.notes = (*contents.notes, *notes)
        self.config: Mapping[str, object] = MappingProxyType(dict(config))
        self._stamps = dict(stamps)
        self._sha256: str | None = None

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, in memory of its own; writing to it changes no file.

        Raises KeyError for an unknown name; CheckpointError where the file has changed since it was opened.
        """
        info = self.infos[name]
        return read_tensor(info, self._stamps[info.file])

    def flat(self, name: str, start: int, stop: int) -> Tensor:
        """Elements `start` to `stop` of a tensor in row-major order, in memory of their own.

        Raises as `checkpoint[name]` does.
        """
        info = self.infos[name]
        return read_flat(info, self._stamps[info.file], start, stop)

    def begin_hashing(self) -> None:
        """Begin to compute `sha256` of a large checkpoint, for this one or another of the same files."""
        begin_hashing(self._stamps)

    def check_unchanged(self) -> None:
        """Check that no file has changed since it was opened. Raises CheckpointError where one has."""
        for path, stamp in self._stamps.items():
            with open_unchanged(path, stamp):
                pass

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def __contains__(self, name: object) -> bool:
        return name in self.infos

    def __getstate__(self) -> dict[str, object]:
        """What a copy in another process needs, perhaps on another host."""
        proxy = MappingProxyType
        return {k: dict(v) if isinstance(v, proxy) else v for k, v in self.__dict__.items()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """A copy that reads the files as they are seen here.

        Raises CheckpointError where one is not the file that was opened.
        """
        self.__dict__.update(state)
        for name in ("infos", "metadata", "config"):
            setattr(self, name, MappingProxyType(state[name]))
        self._stamps = {path: stamp.seen_at(path) for path, stamp in state["_stamps"].items()}

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self)} tensors)"

    @property
    def called(self) -> str:
        """What it is called in reports and metadata: its origin, or of a path the last part alone."""
        return self.origin or self.path.name or self.path.resolve().name

    def sha256(self, threads: int = 4, stop: Event | None = None) -> str:
        """The file's sha256; of several shards, the sha256 of theirs in the order of their names.

        So many shards are read at a time, until `stop` is set: then CancelledError is raised.

        Raises CheckpointError where a file has changed since it was opened.
        """
        if self._sha256 is None:
            self._sha256 = sha256_of_files(self._stamps, threads, stop)
        return self._sha256


def tied_metadata(infos: Iterable[TensorInfo]) -> dict[str, str]:
    """Metadata by which a file written under the stored names says which tensors are tied; may be empty."""
    infos = list(infos)
    stored = {info.name: info.stored_name for info in infos}
    tied = [info for info in infos if info.tied_to is not None and not info.is_implied]
    ties = {info.stored_name: stored[str(info.tied_to)] for info in tied}
    return {TIED: json.dumps(ties, separators=(",", ":"))} if ties else {}


def _named(contents: Contents) -> tuple[str, dict[str, TensorInfo]]:
    """The common prefix, and the tensors under their logical names."""
    stored = {info.stored_name: info for info in contents.tensors}
    prefix = common_prefix(stored)
    ties = {name: info.tied_to for name, info in stored.items() if info.tied_to is not None}
    logical = logical_names(stored, prefix)
    ties |= _declared_ties(contents.metadata.get(TIED), stored, {short: n for n, short in logical.items()})
    infos = {}
    for name, info in stored.items():
        tied, short = ties.get(name), logical[name]
        infos[short] = replace(info, name=short, tied_to=None if tied is None else logical[tied])
    return prefix, infos


def _declared_ties(
    text: str | None, stored: Mapping[str, TensorInfo], named: Mapping[str, str]
) -> dict[str, str]:
    """The ties that the metadata declares, by stored names; logical ones are understood too."""
    if text is None:
        return {}
    what = f"the metadata {TIED}"
    table = parse_json(text.encode("utf-8", "replace"), what)
    if not isinstance(table, dict):
        raise Malformed(f"{what} is not a JSON object")
    ties = {}
    for name, first in table.items():
        pair = [key if key in stored else named.get(key, "") for key in (name, first) if isinstance(key, str)]
        if len(pair) != 2 or pair[0] == pair[1] or any(key not in stored for key in pair):
            raise Malformed(f"{what} ties {shown(name)} to {shown(first)}, which are not two of its tensors")
        one, other = stored[pair[0]], stored[pair[1]]
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            raise Malformed(f"{what} ties {shown(name)} to {shown(first)}, which has another type or shape")
        ties[pair[0]] = pair[1]
    if chained := ties.keys() & set(ties.values()):
        raise Malformed(f"{what} ties others to {shown(min(chained))}, which is itself tied")
    return ties
