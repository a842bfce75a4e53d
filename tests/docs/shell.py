"""Running the shell lines of a page, and comparing what they print with what the page says."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from deepalign_cli.cli.main import main

_WRITING = {"-o", "--csv", "--plot", "--save-alignment"}
_BLOCK = re.compile(
    r"<!-- run(?:: (?P<how>[\w ]+))? -->\n```bash\n(?P<lines>.*?)```\n(?:\n```text\n(?P<out>.*?)```\n)?",
    re.DOTALL,
)
_SECONDS = re.compile(r"\s+\d+\.\d\d(?=\s+[▁▂▃▄▅▆▇█]+$)|[▁▂▃▄▅▆▇█]+$| in \d+\.\d+ s\b", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Lines of a page, what they exit with, and what the page says that they print (None: nothing is said).

    `trained` marks those that run networks which are trained anew, whose figures vary between machines.
    """

    page: str
    lines: tuple[str, ...]
    out: str | None
    trained: bool = False
    code: int = 0


@dataclass
class Shell:
    """Runs lines in a folder, each once, in this process: `deepalign` and `python`."""

    folder: Path
    done: dict[str, tuple[int, str]] = field(default_factory=dict)

    def run(self, line: str) -> tuple[int, str]:
        """The exit code and what went to stdout."""
        if line not in self.done:
            self.done[line] = self._run(line)
        return self.done[line]

    def _run(self, line: str) -> tuple[int, str]:
        words = shlex.split(line, comments=True)
        assert words[0] in ("python", "deepalign"), line
        force = ["--force"] if _WRITING.intersection(words) else []
        out = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out):
            code = _script(words[1:]) if words[0] == "python" else main([*words[1:], *force])
        return code, out.getvalue()


def _script(words: list[str]) -> int:
    """Run a script, and forget what it imported from its own folder."""
    modules = dict(sys.modules)
    with patch.object(sys, "argv", words), patch.object(sys, "path", list(sys.path)):
        runpy.run_path(words[0], run_name="__main__")
    for path in Path.cwd().glob("*.py"):
        if path.stem not in modules:
            sys.modules.pop(path.stem, None)
    return 0


def blocks_of(page: Path) -> list[Block]:
    """The lines of a page that tests run."""
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        how = match["how"] or ""
        code = re.search(r"exit (\d)", how)
        lines = tuple(match["lines"].splitlines())
        found.append(Block(page.name, lines, match["out"], "trained" in how, int(code[1]) if code else 0))
    return found


def assert_same(made: str, said: str, *, trained: bool) -> None:
    """See that two texts have the same words and nearly the same numbers; no times, no sparklines."""
    lines = [[line.split() for line in _SECONDS.sub("", text).splitlines()] for text in (made, said)]
    assert len(lines[0]) == len(lines[1]), made
    for own, other in zip(*lines, strict=True):
        words = [[w for w in line if _number(w) is None] for line in (own, other)]
        assert words[0][: 2 if trained else None] == words[1][: 2 if trained else None], own
        numbers = [[n for w in line if (n := _number(w)) is not None] for line in (own, other)]
        relative, absolute = (0.4, 0.15) if trained else (0.02, 0.002)
        for got, wanted in zip(*numbers, strict=True):
            assert abs(got - wanted) <= relative * abs(wanted) + absolute, (own, other)


def _number(word: str) -> float | None:
    try:
        return float(word.strip("(),%").replace(",", ""))
    except ValueError:
        return None
