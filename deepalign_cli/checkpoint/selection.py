"""A checkpoint seen under other names, without some of its tensors, or with some of another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Event
from types import MappingProxyType
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor


class Selection(Checkpoint):
    """The tensors of `base` that `names` maps from, under the names that it maps to; and what is `lent`.

    `lent` are tensors of another checkpoint under its names. `notes` come after the base's.
    """

    def __init__(
        self, base: Checkpoint, names: Mapping[str, str], notes: Iterable[str] = (),
        lent: Checkpoint | None = None, lent_names: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.__dict__.update(base.__dict__)
        infos = {
            new: replace(base.infos[old], name=new, tied_to=names.get(base.infos[old].tied_to or ""))
            for old, new in names.items()
        }
        self._places = {new: (base, old) for old, new in names.items()}
        if lent is not None:
            infos |= {name: lent.infos[name] for name in lent_names}
            self._places |= {name: (lent, name) for name in lent_names}
        self.base = base
        self.infos = MappingProxyType(infos)
        self.notes = (*base.notes, *notes)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, read from where it is."""
        checkpoint, own = self._places[name]
        return checkpoint[own]

    def flat(self, name: str, start: int, stop: int) -> Tensor:
        """A part of it, read from where it is."""
        checkpoint, own = self._places[name]
        return checkpoint.flat(own, start, stop)

    def sha256(self, threads: int = 4, stop: Event | None = None) -> str:
        """That of the whole."""
        return self.base.sha256(threads, stop)
