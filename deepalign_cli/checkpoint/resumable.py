"""A hidden folder in which shards are gathered, so that a merge that was interrupted can go on.

It lies beside the target and is named for the plan: for all that the weights depend on. A journal in it has a
line for each shard that is complete and on the disk. When all is there, it takes the target's place in one
step; a kill at any moment leaves the old folder or the new one, and a hidden one that goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from deepalign_cli.checkpoint.files import Stamp
from deepalign_cli.checkpoint.hashing import sha256_of_file
from deepalign_cli.checkpoint.replaced_folder import replace_folder
from deepalign_cli.checkpoint.sharding import Shard
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.checkpoint.whole_folder import publish, reported
from deepalign_cli.errors import ClusterError, DeepalignError, Interrupted, OutputError

JOURNAL = ".deepalign-journal"


@dataclass
class ResumableFolder:
    """Where to write. `kept` are the shards that were there, with what was noted of them.

    `notes` are for the user; `finished` counts the shards that are done.
    """

    place: Path
    journal: TextIOWrapper
    kept: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    finished: int = 0

    def finish(self, shard: str, noted: Sequence[float], digest: str | None = None) -> None:
        """Note that a shard is complete and on the disk; `digest` is its sha256, where that is known."""
        path = self.place / shard
        digest = digest or sha256_of_file(path, Stamp.of(path.stat()))
        line = {"shard": shard, "size": path.stat().st_size, "sha256": digest, "noted": list(noted)}
        self.journal.write(json.dumps(line) + "\n")
        self.journal.flush()
        os.fsync(self.journal.fileno())
        self.finished += 1


@contextmanager
def resumable_folder(
    folder: Path, plan: str, shards: Sequence[Shard], *, is_new: bool
) -> Iterator[ResumableFolder]:
    """Where to write the shards of a plan; it becomes `folder`, new or in its place, when all went well.

    It stays, for the same command to go on, where that is interrupted or cannot be written.

    Raises:
        OutputError: it cannot be written, or another run is at it. ClusterError: what writes is gone.
        UsageError: `folder` was made meanwhile.
        Interrupted: Ctrl-C was pressed, and some shards are done.
    """
    target = real_target(folder)
    hidden = target.parent / f".{target.name[:100]}.{plan[:16]}.partial"
    with reported(folder):
        hidden.mkdir(exist_ok=True)
        journal = (hidden / JOURNAL).open("a+")
    with journal:
        _lock(journal, folder)
        opened = ResumableFolder(hidden, journal)
        opened.kept = _complete(hidden, journal, shards)
        opened.finished = len(opened.kept)
        if opened.kept:
            opened.notes.append(
                f"went on with an interrupted run: {len(opened.kept)} of {len(shards)} shards were there"
            )
        opened.notes += _others(target, hidden)
        try:
            yield opened
            with reported(folder):
                publish(hidden, target, folder) if is_new else replace_folder(hidden, target)
                (target / JOURNAL).unlink(missing_ok=True)
        except BaseException as error:
            if not opened.finished or not isinstance(error, OutputError | ClusterError | KeyboardInterrupt):
                shutil.rmtree(hidden, ignore_errors=True)
                raise
            done = f"{opened.finished} of {len(shards)} shards are done: the same command goes on from there."
            if isinstance(error, OutputError | ClusterError):
                raise type(error)(error.message, f"{error.hint.removesuffix('.')}; {done}") from None
            raise Interrupted("Interrupted.", done) from None


def _lock(journal: TextIOWrapper, folder: Path) -> None:
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OutputError(f"'{folder}' is being written by another run.", "wait for it.") from None


def _complete(hidden: Path, journal: TextIOWrapper, shards: Sequence[Shard]) -> dict[str, list[float]]:
    """The shards that the journal names and that are as it says; the others are removed."""
    journal.seek(0)
    lines = {str(line["shard"]): line for line in map(_parsed, journal) if line}
    kept = {}
    for shard in shards:
        line, path = lines.get(shard.name), hidden / shard.name
        with suppress(OSError, DeepalignError, KeyError, TypeError, ValueError):
            status = path.lstat()
            if (
                line
                and status.st_size == line["size"]
                and sha256_of_file(path, Stamp.of(status)) == line["sha256"]
            ):
                kept[shard.name] = [float(number) for number in line["noted"]]
        if shard.name not in kept:
            path.unlink(missing_ok=True)
    return kept


def _parsed(line: str) -> dict[str, Any]:
    """A line of the journal; nothing where it was cut off."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) and "shard" in entry else {}


def _others(target: Path, hidden: Path) -> list[str]:
    """What to tell of folders that other interrupted runs have left beside the target."""
    prefix = f".{target.name[:100]}."
    return [
        f"'{path}' is left from an interrupted run with other inputs or options: remove it"
        for path in sorted(target.parent.iterdir())
        if path.name.startswith(prefix) and path != hidden and _is_abandoned(path / JOURNAL)
    ]


def _is_abandoned(journal: Path) -> bool:
    try:
        with journal.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # there is none, or somebody is at work
        return False
    return True
