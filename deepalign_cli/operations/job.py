"""What `align` and `merge` are given and what they report: files in, files out."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.checkpoint import check_output
from deepalign_cli.checkpoint.hub import is_reference, shown_source
from deepalign_cli.checkpoint.sharding import MAX_SHARD
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.errors import UsageError
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import NAIVE, Settings
from deepalign_cli.threads import usable_cores


@dataclass(frozen=True)
class Job:
    """Inputs and outputs: `inputs[0]` is the reference, the others move onto it.

    An input is a file, a folder, or hf://org/repo[@revision][/file].
    `alignments` are saved ones, one for each moving input; `save` is where that of a pair is kept. `running`
    is what the networks are run as and on, where anything runs them; `repair` names the data that a merged
    network is repaired on. `reads` are files that are read besides: no output may take their place.
    `recipe` has the lines on options of the recipe that metadata and cards hold.
    Weights are written by so many `threads`; in a folder in files of at most `max_shard` bytes; by `merge`
    with floating-point tensors of the type `dtype`, a code of safetensors. With an `engine` the files of a
    folder are written by the workers of a cluster.
    """

    inputs: tuple[Path, ...]
    output: Path
    settings: Settings = field(default_factory=Settings)
    alignments: tuple[Path, ...] = ()
    save: Path | None = None
    running: RunSettings = field(default_factory=RunSettings)
    repair: str | None = None
    reads: tuple[Path, ...] = ()
    recipe: str = ""
    threads: int = field(default_factory=usable_cores)
    max_shard: int = MAX_SHARD
    dtype: str | None = None
    engine: str | None = None

    @property
    def untouchable(self) -> tuple[Path, ...]:
        """All files that no output may take the place of."""
        spec = self.settings.spec
        return (*self.inputs, *self.alignments, *self.reads, *([spec] if isinstance(spec, Path) else []))

    @property
    def only_streams(self) -> bool:
        """Whether inputs are read for the output alone: nothing is to be aligned."""
        return bool(self.alignments) or self.settings.method == NAIVE

    def open(self, *, measured: bool = False) -> tuple[Job, Session]:
        """The inputs, opened; and the job with the files that they were fetched to.

        Raises:
            DeepalignError: an input cannot be read, or does not fit the others.
        """
        inputs = self.inputs
        if self.engine is not None:  # other hosts work in other folders
            inputs = tuple(path if is_reference(path) else path.absolute() for path in inputs)
        session = Session(inputs, self.settings, self.running, self.alignments, measured=measured)
        return replace(self, inputs=tuple(checkpoint.path for checkpoint in session.inputs)), session


@dataclass(frozen=True)
class Report:
    """What was done for one output, `seconds` after the work began.

    There is an alignment for each moving input. `metadata` are the output's; where that is a folder, `files`
    are the names of what was written into it, the card last. `more` is what else a
    script is told of a merge.
    """

    output: Path
    alignments: tuple[Alignment, ...]
    seconds: float
    bytes: int
    notes: tuple[str, ...]
    metadata: Mapping[str, str]
    files: tuple[str, ...] = ()
    more: Mapping[str, object] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """How the alignments were found."""
        return self.alignments[0].method

    @property
    def groups(self) -> Mapping[str, Mapping[str, int]]:
        """The groups of the first moving input."""
        return self.alignments[0].groups

    @property
    def distances(self) -> list[tuple[float, float]]:
        """Before and after, for each moving input."""
        return [alignment.distances for alignment in self.alignments]


def check_outputs(job: Job, outputs: Sequence[Path]) -> None:
    """Refuse, before any work, what could not be written in the end. Raises UsageError, OutputError."""
    folders = [out.parent for out in outputs if len(outputs) > 1]
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"'{folder}' is not a folder.", "name one with -o for several outputs.")
    missing = [folder for folder in folders if not folder.exists()]  # where nothing can be in the way
    there = [out for out in outputs if out.parent not in missing]
    for out in (*missing, *there, *filter(None, [job.save])):
        check_output(out, force=job.settings.force, inputs=job.untouchable)
    for out in outputs:
        _check_suffix(out)
    targets: dict[Path, int] = {}
    for place, out in enumerate(outputs):
        first = targets.setdefault(real_target(out), place)
        if first != place:
            pair = " and ".join(f"'{shown_source(job.inputs[1 + i])}'" for i in (first, place))
            raise UsageError(f"{pair} would both be written to '{out}'.", "align one of them by itself.")
    check_kept(job)
    _check_dreams(job, targets)
    if job.save and len(job.inputs) > 2:
        hint = "run `deepalign align A B --save-alignment F` for each."
        raise UsageError("a saved alignment holds one pair.", hint)
    if job.save and real_target(job.save) in targets:
        problem = f"'{job.save}' would hold both the output and the alignment."
        raise UsageError(problem, "give --save-alignment a file of its own.")


def check_kept(job: Job) -> None:
    """Refuse to keep an alignment of networks that differ in some tensors. Raises UsageError."""
    if job.save and job.settings.partial:
        raise UsageError("--partial and --save-alignment exclude each other.", "leave one out.")


def _check_dreams(job: Job, targets: Container[Path]) -> None:
    """Refuse dreams that would take the place of what is read or written."""
    for path in job.running.dreams_in:
        check_output(path, force=job.settings.force, inputs=job.untouchable)
        if real_target(path) in targets or (job.save and real_target(path) == real_target(job.save)):
            raise clash_of_dreams(path)


def clash_of_dreams(path: Path) -> UsageError:
    """What is raised where another file is to be written where dreams are."""
    return UsageError(f"'{path}' would hold dreams and something else.", "give --save-dreams another name.")


def _check_suffix(out: Path) -> None:
    """Refuse `x.pt`, which others would take for what `torch.save` writes; `v1.5` has no suffix."""
    if out.suffix[1:2].isalpha() and out.suffix.lower() != ".safetensors":
        problem = f"'{out}' would be a safetensors file, which its name does not say."
        raise UsageError(problem, f"write -o {out.with_suffix('.safetensors')}")
