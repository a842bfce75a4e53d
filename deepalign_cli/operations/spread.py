"""Shards that are written by the workers of a cluster, into the folder where a run can be gone on with.

What the workers need is put into that folder once. Each shard is a task: a worker reads from the inputs what
the shard needs and writes it under a name of this run's own; when it is complete, it gets its name here, and
its line in the journal. So a shard can be done twice, and what a lost worker left is no shard.
"""

from __future__ import annotations

import hashlib
import pickle
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.checkpoint.files import Stamp
from deepalign_cli.checkpoint.hashing import sha256_of_file
from deepalign_cli.checkpoint.open import read_file
from deepalign_cli.checkpoint.placed import placed_file, rewrite_metadata
from deepalign_cli.checkpoint.resumable import ResumableFolder
from deepalign_cli.checkpoint.sharding import Shard
from deepalign_cli.cluster import Cluster
from deepalign_cli.errors import ClusterError
from deepalign_cli.extras import require
from deepalign_cli.malloc import set_blocks
from deepalign_cli.operations.stream import Stream
from deepalign_cli.progress import Progress

_WORK = ".deepalign-work"


@dataclass(frozen=True)
class ShardTask:
    """A shard to be written to `target`: the stream is in the file `work`, which has the sha256 `digest`."""

    work: Path
    digest: str
    shard: Shard
    target: Path
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class WrittenShard:
    """What a worker tells of a shard: the squares that it measured, and the file's size and sha256."""

    squares: list[float]
    size: int
    sha256: str


def spread_shards(
    cluster: Cluster, stream: Stream, folder: ResumableFolder, shards: Sequence[Shard],
    metadata: Mapping[str, str], finish: Callable[[], dict[str, str]], progress: Progress,
) -> dict[str, str]:  # fmt: skip
    """Have what is missing written; the last shard gets the metadata when the hashes are there.

    Raises:
        ClusterError: the workers are gone, or do not see the folder. DeepalignError: what a worker raised.
    """
    last, noted = shards[-1], dict(folder.kept)
    for shard in shards:
        if shard.name in folder.kept:
            progress(shard.nbytes)
    with _tasks(stream, folder, shards, metadata) as tasks:
        for task, written in cluster.run(write_shard, tasks):
            _take(task, written, folder.place)
            noted[task.shard.name] = written.squares
            if task.shard is not last:
                folder.finish(task.shard.name, written.squares, written.sha256)
            progress(task.shard.nbytes)
    for squares in noted.values():
        stream.add_squares(squares)
    told = finish()
    if last.name not in folder.kept or read_file(folder.place / last.name)[0].metadata != told:
        rewrite_metadata(folder.place / last.name, last.entries, told)
        folder.finish(last.name, noted[last.name])
    if cluster.lost:
        folder.notes.append(f"workers were lost: {cluster.lost}; what they were at was done again")
    return told


def write_shard(task: ShardTask) -> WrittenShard:
    """Write one shard, on a worker.

    Raises:
        DeepalignError: as `Stream.fill`. ClusterError: the folder is not there.
    """
    set_blocks(streams=True)
    stream = replace(_stream(task.work, task.digest), _squares=[], _sums=[])
    named = {info.stored_name: info.name for info in stream.layout.infos.values()}
    with placed_file(task.target, task.shard.entries, task.metadata, force=True, read_again=True) as file:
        stream.fill(file, [named[entry.name] for entry in task.shard.entries])
    for checkpoint in stream.inputs:
        checkpoint.check_unchanged()
    stamp = Stamp.of(task.target.stat())
    return WrittenShard(stream.take_squares(), stamp.size, sha256_of_file(task.target, stamp))


@contextmanager
def _tasks(
    stream: Stream, folder: ResumableFolder, shards: Sequence[Shard], metadata: Mapping[str, str]
) -> Iterator[list[ShardTask]]:
    """A task for each shard that is missing, as long as there is the file that they need."""
    pickled = require("cloudpickle", "cluster", "--engine dask").dumps(stream)
    place, token = folder.place.absolute(), secrets.token_hex(8)
    work, digest = place / _WORK, hashlib.sha256(pickled).hexdigest()
    write_bytes(work, pickled, force=True)

    def task(shard: Shard) -> ShardTask:
        own = dict(metadata) if shard is shards[-1] else {"format": metadata["format"]}
        return ShardTask(work, digest, shard, place / f".{shard.name}.{token}.partial", own)

    try:
        yield [task(shard) for shard in shards if shard.name not in folder.kept]
    finally:
        work.unlink(missing_ok=True)
        for partial in place.glob(".*.partial"):
            partial.unlink(missing_ok=True)


def _take(task: ShardTask, written: WrittenShard, place: Path) -> None:
    """Give a shard its name. Raises ClusterError where it is not to be seen here."""
    if not task.target.exists() or task.target.stat().st_size != written.size:
        problem = f"a worker has written '{task.shard.name}' into a folder that is not '{place}' here."
        raise ClusterError(problem, "the output must lie in a folder that all hosts mount at the same path.")
    task.target.replace(place / task.shard.name)


@lru_cache(maxsize=1)
def _stream(work: Path, digest: str) -> Stream:
    """The stream of a run, read once by each process; nothing but what was sent is loaded."""
    try:
        pickled = work.read_bytes()
    except OSError as error:
        hint = "the output must lie in a folder that all hosts mount at the same path."
        raise ClusterError(f"a worker does not see '{work.parent}': {error.strerror}.", hint) from None
    if hashlib.sha256(pickled).hexdigest() != digest:
        raise ClusterError(f"'{work}' is not what was sent.", "let nothing else write into the folder.")
    stream: Stream = pickle.loads(pickled)
    return stream
