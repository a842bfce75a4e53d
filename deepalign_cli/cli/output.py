"""One sink for everything that the command line says: results on stdout, the rest on stderr.

Three modes: human (tables and sentences), JSON (one object), quiet (the output's path and nothing
else). On a terminal rich lays things out for its width; off a terminal the text is plain: no
boxes, no colours, nothing cut or wrapped.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from deepalign_cli.errors import DeepalignError, UsageError
from deepalign_cli.progress import Progress

SCHEMA = 1

Stream = TextIO | io.TextIOWrapper | io.StringIO  # the last two are no TextIO except to static checkers


class Output:
    """Where a command shows its result, its notes and its progress.

    A command makes one from its `--json` and `-q` flags and calls `result` once, last.
    """

    def __init__(self, command: str, *, json: bool = False, quiet: bool = False) -> None:
        if json and quiet:
            hint = "leave out -q: --json prints the output's path too, under 'output'."
            raise UsageError("--json and -q exclude each other.", hint)
        self.command, self.json, self.quiet = command, json, quiet
        self._notes: list[str] = []
        self._stderr = console(sys.stderr)

    def result(
        self, payload: Mapping[str, Any], human: str | Callable[[Console], None], *paths: object
    ) -> None:
        """Show the result on stdout: `payload` as JSON, or `human` (or what it draws), or only `paths`."""
        if self.json:
            notes = {"notes": self._notes} if self._notes else {}
            write_json(sys.stdout, {"schema": SCHEMA, "command": self.command, **payload, **notes})
        elif self.quiet:
            sys.stdout.writelines(f"{path}\n" for path in paths if path is not None)
        elif isinstance(human, str):
            console(sys.stdout).print(human)
        else:
            human(console(sys.stdout))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Say something on stderr; in JSON it goes under `notes`. When quiet only assumptions are said."""
        assumed = text.startswith("assumption: ")
        if self.json:
            self._notes.append(text)
        elif assumed or not self.quiet:
            self._stderr.print(text if assumed else f"note: {text}", soft_wrap=True)

    def notes(self, texts: Iterable[str]) -> None:
        """Say each of several things once."""
        for text in dict.fromkeys(texts):
            self.note(text)

    @contextmanager
    def progress(self, label: str, total: float = 1.0, unit: str = "") -> Iterator[Progress]:
        """Show a bar over all the work of the block: what is being done, percent, elapsed time and ETA.

        Until the first step the bar pulses; from then on it counts. It is on stderr, only where that is a
        terminal, and gone when the block ends.
        """
        if self.quiet or not self._stderr.is_terminal:
            yield Progress()
            return
        from rich import progress as bars

        class Remaining(bars.ProgressColumn):
            def render(self, task: bars.Task) -> Text:
                return Text(remaining(task.elapsed, task.completed), style="cyan")

        columns = [
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=max(8, min(40, self._stderr.width // 3))),
            bars.TaskProgressColumn(),
            bars.TimeElapsedColumn(),
            Remaining(),
        ]
        with bars.Progress(*columns, console=self._stderr, transient=True) as bar:
            task = bar.add_task(printable(label), total=None)

            def show(share: float, words: str) -> None:
                done = max(bar.tasks[0].completed, share)
                bar.update(task, total=1 if done else None, completed=done, description=printable(words))

            yield Progress(show, label, total, unit=unit)


def remaining(elapsed: float | None, share: float) -> str:
    """The time that is left by the mean speed over all the work so far: a slow stage cannot make it jump."""
    if elapsed is None or not share:
        return ""
    return f"ETA {timedelta(seconds=round(elapsed * max(0.0, 1 / share - 1)))}"


def show_error(error: DeepalignError, *, as_json: bool = False, traceback: str = "") -> None:
    """Show `error` on stderr: a sentence and a hint, both without a final full stop, or one JSON object."""
    # Without the full stop a path or a command at the end can be copied; an ellipsis stays.
    message, hint = (t if t.endswith("..") else t.removesuffix(".") for t in (error.message, error.hint))
    if as_json:
        body = {"code": error.code, "message": message, "hint": hint}
        if traceback:
            body["traceback"] = traceback
        write_json(sys.stderr, {"schema": SCHEMA, "error": body})
        return
    sys.stderr.write(traceback)
    stderr = console(sys.stderr)
    stderr.print(Text.assemble(("error: ", "bold red"), printable(message)), soft_wrap=True)
    if hint:
        stderr.print(Text.assemble(("hint: ", "bold cyan"), printable(hint)), soft_wrap=True)


def console(stream: Stream) -> Console:
    """Return a console that folds and colours on a terminal and writes plain text elsewhere."""
    how: dict[str, Any] = {"force_terminal": False, "color_system": None, "soft_wrap": True}
    if is_terminal(stream):
        how = {"force_terminal": True}
    return _Console(file=stream, markup=False, emoji=False, highlight=False, **how)


def is_terminal(stream: Stream) -> bool:
    """Tell whether `stream` is a terminal that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}


class _Console(Console):
    """A rich console for which text is text: a tensor's name cannot steer the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    r"""Return `text` with control characters (all but newline and tab) written as `\x1b` and the like."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda m: f"\\x{ord(m[0]):02x}", text)


# --- tables ---------------------------------------------------------------------------------------


class TextTable:
    """Rows under headings, laid out for where they are printed; numbers are aligned to the right.

    On a terminal a rich table that folds its cells, or one line a cell where even that does not fit;
    elsewhere plain columns of whatever width they need.
    """

    def __init__(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None
    ) -> None:
        self.columns = [printable(str(column)) for column in columns]
        self.rows = [[_cell(value) for value in row] for row in rows]
        self.title = title
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"A row has {len(row)} cells, the table {len(self.columns)} columns: {row}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | RichTable]:
        """Yield the layout that suits `console`."""
        if self.title:
            yield Text(printable(self.title), style="bold")
        if not console.is_terminal:
            yield from self._plain()
            return
        rich_table = self._rich()
        if Measurement.get(console, options.update(width=10_000), rich_table).minimum <= options.max_width:
            yield rich_table
        else:
            yield from self._records()

    def width(self, console: Console) -> int:
        """The columns that it takes on a terminal that is wide enough."""
        return Measurement.get(console, console.options.update(width=10_000), self._rich()).maximum

    def _rich(self) -> RichTable:
        rich_table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(self.columns):
            rich_table.add_column(
                column, overflow="fold", justify="right" if self._numeric(index) else "left"
            )
        for row in self.rows:
            rich_table.add_row(*(Text(cell) for cell in row))
        return rich_table

    def _plain(self) -> Iterator[Text]:
        columns = list(zip(self.columns, *self.rows, strict=True))
        for index, cells in enumerate(columns):
            width, numeric = max(map(cell_len, cells)), self._numeric(index)
            spaces = [" " * (width - cell_len(cell)) for cell in cells]
            columns[index] = tuple(s + c if numeric else c + s for c, s in zip(cells, spaces, strict=True))
        for line in zip(*columns, strict=True):
            yield Text("  ".join(line).rstrip())

    def _records(self) -> Iterator[Text]:
        for number, row in enumerate(self.rows):
            if number:
                yield Text("")
            for column, cell in zip(self.columns, row, strict=True):
                yield Text.assemble((f"{column}: ", "bold"), cell, overflow="fold")

    def _numeric(self, index: int) -> bool:
        return all(_NUMBER.fullmatch(row[index]) for row in self.rows)


_NUMBER = re.compile(r"([-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?( ?%| s|x)?|nan|[-+]?inf|-|)", re.IGNORECASE)


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


# --- JSON -----------------------------------------------------------------------------------------


def write_json(stream: Stream, value: Mapping[str, Any]) -> None:
    """Write `value` to `stream` as one JSON object and a newline."""
    clean = jsonable(value)
    text = json.dumps(clean, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:  # a file name that is not UTF-8, or a terminal that is not
        text = json.dumps(clean, ensure_ascii=True, allow_nan=False)
    stream.write(f"{text}\n")


def jsonable(value: Any) -> Any:
    """Return `value` in JSON's types: NaN and Inf become null, paths strings, tensors lists."""
    if isinstance(value, Enum):
        return jsonable(value.value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy and torch, neither of which is imported here
        return jsonable(value.tolist())
    return [jsonable(item) for item in value]
