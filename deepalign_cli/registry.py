"""A table of methods or combiners: those that come with deepalign, and those that other packages add.

A package adds a row by an entry point, in its `pyproject.toml`:

    [project.entry-points."deepalign.methods"]
    mine = "my_package.rows:METHOD"

where METHOD is a row like those of `aligners/methods.py`. The module is imported when the table is first
read, so it must not import torch at its top. A row that cannot be loaded is left out; `problems` says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from typing import Generic, Protocol, TypeVar, runtime_checkable

from deepalign_cli.errors import UsageError


@runtime_checkable
class Named(Protocol):
    """What a row has at least."""

    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=Named)


class Table(Mapping[str, Row], Generic[Row]):
    """Rows by name, built-in ones first. `what` is what a row is called in messages."""

    def __init__(self, what: str, group: str, rows: Sequence[Row]) -> None:
        self._what, self._group, self._builtin = what, group, tuple(rows)
        self.problems: list[str] = []

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, name: str) -> Row:
        """The row of a name that a user gave.

        Raises:
            UsageError: there is none.
        """
        if name not in self._rows:
            hint = f"there are {', '.join(self)}; `deepalign methods` describes them."
            raise UsageError(f"there is no {self._what} '{name}'.", " ".join([hint, *self.problems]))
        return self._rows[name]

    @cached_property
    def _rows(self) -> dict[str, Row]:
        rows = {row.name: row for row in self._builtin}
        for entry in entry_points(group=self._group):
            try:
                row = entry.load()
                if not isinstance(row, type(self._builtin[0])) or row.name in rows:
                    raise TypeError(f"it is not a new {type(self._builtin[0]).__name__}")
                rows[row.name] = row
            except Exception as error:  # another package's code may raise anything
                reason = " ".join(str(error).split()) or type(error).__name__
                self.problems.append(
                    f"The {self._what} '{entry.name}' ({entry.value}) was left out: {reason}."
                )
        return rows
