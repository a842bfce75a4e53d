"""Where the Python face writes: a file or a folder, with the options on that; checked before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deepalign_cli.api.arguments import Source
from deepalign_cli.checkpoint.info import CODES
from deepalign_cli.checkpoint.sharding import WEIGHTS, parse_size
from deepalign_cli.errors import UsageError
from deepalign_cli.operations.job import Job, check_outputs
from deepalign_cli.operations.merged_folder import CARD
from deepalign_cli.operations.output_folder import check_folder
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.session import Session

Out = str | os.PathLike[str] | None
_TYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Writing:
    """What is said of the output: `out` as it was given, and what a `Job` is told by its own names."""

    out: Out
    first: object = None
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """Whether that is a folder: `out/`, one that is there, or a bare name where a folder comes first."""
        if self.out is None:
            return False
        text, path = os.fspath(self.out), Path(self.out)
        if text.endswith(("/", os.sep)) or path.is_dir():
            return True
        first = self.first if isinstance(self.first, str | os.PathLike) else None
        return first is not None and not path.suffix[1:2].isalpha() and Path(first).is_dir()

    def job(
        self, session: Session, *, reads: Sequence[Path] = (), repair: str | None = None, data: object = None
    ) -> Job | None:
        """What is to be written, if anything. Raises UsageError, OutputError where it could not be."""
        if self.out is None:
            return None
        on_disk = [one for one in session.inputs if one.files]
        inputs = tuple(path for one in on_disk for path in (one.path, *one.files))
        running = RunSettings(data=None if data is None else "data")
        job = Job(
            inputs, Path(self.out), session.settings, repair=repair, reads=tuple(reads), running=running,
            **self.told,
        )  # fmt: skip
        check_folder(job, (WEIGHTS, CARD)) if self.is_folder else check_outputs(job, [job.output])
        return job

    @property
    def title(self) -> str:
        """What a card is called."""
        return Path(self.out or "").resolve().name


def writing_of(
    out: Out, first: Source | None, options: Mapping[str, Any], names: Sequence[str]
) -> tuple[Writing, dict[str, Any]]:
    """How to write, by the options of these `names`; and the other options.

    Raises:
        UsageError: a value may not be used, or has no effect.
    """
    given = {name: options[name] for name in names if options.get(name) is not None}
    rest = {name: value for name, value in options.items() if name not in names}
    told: dict[str, Any] = {}
    if "dtype" in given:
        told["dtype"] = CODES[_type(given["dtype"])]
    if "threads" in given:
        told["threads"] = _whole("threads", given["threads"])
    if "max_shard_size" in given:
        size = given["max_shard_size"]
        told["max_shard"] = parse_size(size) if isinstance(size, str) else _whole("max_shard_size", size)
    writing = Writing(out, first, told)
    if "max_shard_size" in given and not writing.is_folder:
        raise UsageError("max_shard_size is for folders.", "give out='folder/'.")
    return writing, rest


def _type(given: object) -> str:
    name = str(given).removeprefix("torch.") if isinstance(given, torch.dtype) else given
    if name not in _TYPES:
        raise UsageError(f"dtype is {given!r}.", f"it is one of {', '.join(_TYPES)}.")
    return str(name)


def _whole(name: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise UsageError(f"{name} is {given!r}.", "it must be a positive integer.")
    return given
