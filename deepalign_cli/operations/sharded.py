"""Where a network's weights go: one file, or shards and an index in a folder that can be gone on with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.checkpoint.open import read_file
from deepalign_cli.checkpoint.placed import placed_file
from deepalign_cli.checkpoint.replaced_folder import exchanged_folder
from deepalign_cli.checkpoint.resumable import ResumableFolder, resumable_folder
from deepalign_cli.checkpoint.sharding import INDEX, Shard, encode_index, split
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.checkpoint.whole_folder import created_folder
from deepalign_cli.cluster import Cluster, connected
from deepalign_cli.errors import UsageError
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.spread import spread_shards
from deepalign_cli.operations.stream import Stream, entries_of
from deepalign_cli.progress import Progress
from deepalign_cli.threads import usable_cores

Hashed = Callable[[], tuple[str, ...]]


@runtime_checkable
class WeightsTarget(Protocol):
    """Where weights are written: `path` as it is called, `place` the folder; `files` are the names.

    `notes` are what the user should know, and `place` is right, when all is written.
    """

    path: Path
    place: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]

    def write(
        self, stream: Stream, facts: Mapping[str, object], hashes: Hashed, progress: Progress
    ) -> dict[str, str]:
        """Write the network; returns its metadata. Raises DeepalignError where it cannot be written."""


class OneFile:
    """A single safetensors file."""

    def __init__(self, job: Job, path: Path) -> None:
        self._job, self.path, self.place = job, path, path.parent
        self.files: tuple[str, ...] = (path.name,)
        self.notes: tuple[str, ...] = ()

    def write(
        self, stream: Stream, facts: Mapping[str, object], hashes: Hashed, progress: Progress
    ) -> dict[str, str]:
        job = self._job
        return stream.write(self.path, facts, hashes, job.settings, job.untouchable, progress)


class Shards:
    """Several files and their index, in a folder that becomes `job.output` when `stack` is left.

    What belongs beside the weights goes into `place` after they are written. Where there is a `cluster`, its
    workers write them.
    """

    def __init__(
        self, job: Job, shards: Sequence[Shard], stack: ExitStack, cluster: Cluster | None = None, *,
        is_new: bool,
    ) -> None:  # fmt: skip
        self._job, self._shards, self._stack, self._is_new = job, shards, stack, is_new
        self._write = partial(spread_shards, cluster) if cluster else _write_shards
        self.files = (*(shard.name for shard in shards), INDEX)
        self.notes: tuple[str, ...] = ()
        self.path = self.place = job.output

    def write(
        self, stream: Stream, facts: Mapping[str, object], hashes: Hashed, progress: Progress
    ) -> dict[str, str]:
        settings = self._job.settings
        implied = {info.stored_name for info in stream.layout.infos.values() if info.is_implied}
        metadata = {k: v for k, v in stream.metadata(facts, settings).items() if k not in implied}
        plan = plan_of(stream, metadata, self._shards)
        folder = self._stack.enter_context(
            resumable_folder(self._job.output, plan, self._shards, is_new=self._is_new)
        )
        self.place = folder.place
        finish = partial(stream.finished, metadata, hashes, settings)
        told = self._write(stream, folder, self._shards, metadata, finish, progress)
        self.notes = tuple(folder.notes)
        write_bytes(folder.place / INDEX, encode_index(self._shards), force=True)
        return told


def shards_of(layout: Checkpoint, dtype: str | None, most: int) -> tuple[Shard, ...]:
    """The files of an output with this layout, of at most so many bytes.

    What a single file leaves out and only names is written out where there are several.
    """
    shards = split(entries_of(layout, dtype), most)
    return shards if len(shards) == 1 else split(entries_of(layout, dtype, implied=True), most)


def output_of(
    job: Job, shards: Sequence[Shard], stack: ExitStack, files: Iterable[Path] = ()
) -> WeightsTarget:
    """Where the weights of a folder go; that is complete when `stack` is left, or not at all.

    `files` are the inputs', which the workers of an engine must see.

    Raises:
        OutputError: it cannot be written. UsageError: an engine has nothing to share out.
        MissingExtra, ClusterError: the engine cannot be had.
    """
    if len(shards) == 1 and job.engine is not None:
        hint = "leave --engine out, or ask for smaller files: --max-shard-size 500MB."
        raise UsageError("--engine shares out shards, and the weights are one file.", hint)
    if len(shards) == 1:
        is_in_the_way = os.path.lexists(job.output / INDEX)  # it would be read in place of the one file
        opened = exchanged_folder(job.output) if is_in_the_way else created_folder(job.output)
        return OneFile(job, stack.enter_context(opened) / shards[0].name)
    target, cluster = real_target(job.output), None
    if job.engine is not None:
        cluster = stack.enter_context(connected(job.engine, usable_cores()))
        cluster.check_shared(files, target.parent)
    return Shards(job, shards, stack, cluster, is_new=not target.exists())


def plan_of(stream: Stream, metadata: Mapping[str, str], shards: Sequence[Shard]) -> str:
    """A digest of all that the output depends on: metadata, layout, the inputs' states, what moves them."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for shard in shards:
        digest.update(repr((shard.name, shard.entries)).encode())
    for checkpoint in (*stream.inputs, stream.layout):
        for path in checkpoint.files:
            status = path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            digest.update(repr((path.name, state)).encode())
    tensors = dict(stream.known)
    tensors |= {} if stream.token_rows is None else {"token rows": stream.token_rows.rows}
    for place, alignment in enumerate(stream.alignments):
        g = alignment.element
        parts = {"perm": g.perm, "scale": g.scale, "enter": g.enter, "leave": g.leave}
        parts["turn"] = {group: turn.matrix for group, turn in g.turn.items()}
        tensors |= {f"{place} {part} {name}": w for part, named in parts.items() for name, w in named.items()}
    for name, w in tensors.items():
        digest.update(f"{name} {w.dtype} {tuple(w.shape)}\0".encode())
        digest.update(w.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write_shards(
    stream: Stream, folder: ResumableFolder, shards: Sequence[Shard], metadata: Mapping[str, str],
    finish: Callable[[], dict[str, str]], progress: Progress,
) -> dict[str, str]:  # fmt: skip
    """Write what is missing; the last one, which has the metadata, when the hashes are there.

    While a shard goes to the disk, the next one is made.
    """
    named = {info.stored_name: info.name for info in stream.layout.infos.values()}
    told: dict[str, str] = {}
    with ThreadPoolExecutor(1, thread_name_prefix="shard") as pool:
        before: Future[None] | None = None
        for shard in shards:
            is_last = shard is shards[-1]
            if is_last and shard.name in folder.kept:
                told = finish()
                if read_file(folder.place / shard.name)[0].metadata != told:
                    del folder.kept[shard.name]
            if shard.name in folder.kept:
                stream.add_squares(folder.kept[shard.name])
                progress(shard.nbytes)
                continue
            own = dict(metadata) if is_last else {"format": metadata["format"]}
            with ExitStack() as stack:
                file = stack.enter_context(
                    placed_file(folder.place / shard.name, shard.entries, own, force=True, read_again=True)
                )
                stream.fill(file, [named[entry.name] for entry in shard.entries], progress)
                if is_last:
                    told = finish()
                    file.set_metadata(told)
                if before is not None:
                    before.result()
                before = pool.submit(_close, stack.pop_all(), folder, shard.name, stream.take_squares())
        if before is not None:
            before.result()
    return told


def _close(stack: ExitStack, folder: ResumableFolder, name: str, squares: Sequence[float]) -> None:
    stack.close()
    folder.finish(name, squares)
