"""A table of methods or combiners: those that come with deepalign, and those that other packages add.

A package adds a row by an entry point, in its `pyproject.toml`:

    [project.entry-points."deepalign.methods"]
    mine = "my_package.rows:METHOD"

where METHOD is a row like those of `aligners/methods.py`; `examples/plugin/` is such a package. The module is
imported when the table is first read, so it must not import torch at its top. A row that cannot be loaded,
or takes a name that there is, is left out; `problems` says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from typing import Generic, Protocol, TypeVar, runtime_checkable

from deepalign_cli.errors import UsageError
from deepalign_cli.parameters import Parameter

# What commands that align, and the Python face, have as options of their own: no row may call its so.
RESERVED = frozenset((
    "a", "activation", "alignment", "alpha", "arguments", "b", "base", "base_a", "base_b", "batch_size",
    "combine", "csv", "data", "design", "device", "dream", "dream_steps", "dry_run", "dtype", "engine",
    "figure_width", "font", "force", "grey", "heads", "help", "input_shape", "inputs", "json", "key",
    "kinds", "label", "limit", "loss", "m", "max_barrier", "max_shard_size", "method", "model",
    "model_arg", "networks", "no_dream", "normalise", "o", "offline", "onto", "out", "output", "partial",
    "path", "plot", "points", "pool", "private", "push", "q", "quiet", "rank", "recipe", "repair",
    "samples", "save_alignment", "save_dreams", "save_recipe", "scale", "seed", "side", "spec", "split",
    "splits", "strict", "threads", "tokenizer", "tolerance", "tuned_a", "weights", "weights_for", "y", "yes",
))  # fmt: skip


@runtime_checkable
class Named(Protocol):
    """What a row has at least."""

    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=Named)

# The options of the rows of all tables: which kind of row has each, and what it is.
_OPTIONS: dict[str, tuple[str, Parameter]] = {}


class Table(Mapping[str, Row], Generic[Row]):
    """Rows by name, built-in ones first. `what` is what a row is called in messages."""

    def __init__(self, what: str, group: str, rows: Sequence[Row]) -> None:
        self._what, self._group, self._builtin = what, group, tuple(rows)
        self.problems: list[str] = []
        for row in rows:
            self._take_options(row)

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
                if not isinstance(row, type(self._builtin[0])):
                    raise TypeError(f"it is {type(row).__name__}, not {type(self._builtin[0]).__name__}")
                if row.name in rows:
                    raise ValueError(f"there is another '{row.name}'")
                self._take_options(row)
                rows[row.name] = row
            except (Exception, SystemExit) as error:  # another package's code may raise anything
                reason = " ".join(str(error).split()) or type(error).__name__
                self.problems.append(
                    f"The {self._what} '{entry.name}' ({entry.value}) was left out: {reason}."
                )
        return rows

    def _take_options(self, row: Row) -> None:
        """Note a row's options. Raises ValueError where one cannot be had beside all others."""
        options: tuple[Parameter, ...] = getattr(row, "parameters", ())
        for option in options:
            if not option.name.isidentifier() or option.type not in (int, float, str):
                raise ValueError(f"'{option.name}' cannot be an option")
            what, known = _OPTIONS.get(option.name, (self._what, option))
            if option.name in RESERVED or what != self._what or known != option:
                raise ValueError(f"{option.option} is an option already")
        _OPTIONS.update({option.name: (self._what, option) for option in options})
