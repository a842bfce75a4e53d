"""`--dry-run`: what `merge` or `transport` would do, from the inputs' headers alone; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepalign_cli.checkpoint import DTYPES, Checkpoint
from deepalign_cli.checkpoint.sharding import WEIGHTS
from deepalign_cli.combiners.rules import weights_of
from deepalign_cli.operations.job import Job, check_outputs
from deepalign_cli.operations.merge import Merging
from deepalign_cli.operations.mergeable import check_mergeable, notes_on_parts
from deepalign_cli.operations.merged_folder import CARD
from deepalign_cli.operations.output_folder import check_folder, check_weights
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import NAIVE
from deepalign_cli.operations.sharded import shards_of
from deepalign_cli.operations.stream import entries_of
from deepalign_cli.operations.transport import check_scale, fitted_to, opened


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the output, and the networks' weights; None where it is not combined by weights."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    weights: tuple[float, ...] | None


@dataclass(frozen=True)
class MergePlan:
    """What a merge, or a transport, would do.

    `inputs` are the inputs' names and their bytes, the base first if there is one. `groups` are the sizes of
    the groups of units that may move; None where the networks stay as they are, or move by saved alignments.
    `files` are those of a folder's weights.
    """

    output: Path
    inputs: tuple[tuple[str, int], ...]
    has_base: bool
    method: str
    groups: Mapping[str, int] | None
    facts: Mapping[str, object]
    tensors: tuple[PlannedTensor, ...]
    notes: tuple[str, ...]
    files: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """How large the output's tensors are."""
        return sum(tensor.bytes for tensor in self.tensors)


def plan_merge(job: Job, merging: Merging, *, is_folder: bool = False) -> MergePlan:
    """What `merge` would do with these options: it checks all that can be checked without reading weights.

    Raises:
        DeepalignError: the merge would be refused.
    """
    merging.check(len(job.inputs))
    if is_folder:
        check_folder(job, (WEIGHTS, CARD))
    else:
        check_outputs(job, [job.output])
    job, session = job.open()
    check_mergeable(session.inputs)
    merging.of(session.fit.layout)
    shards = shards_of(session.fit.layout, job.dtype, job.max_shard) if is_folder else ()
    if is_folder:
        check_weights(job, shards)
    told = session.fit.vocabulary.notes if session.fit.vocabulary else ()
    return MergePlan(
        output=job.output,
        inputs=_sized(session.inputs),
        has_base=merging.has_base,
        method="saved alignments" if job.alignments else session.settings.method,
        groups=_groups(job, session),
        facts=merging.facts() | _typed(job),
        tensors=_tensors(session, merging, job.dtype),
        files=tuple(shard.name for shard in shards),
        notes=tuple(dict.fromkeys([*told, *notes_on_parts(session.inputs), *merging.notes()])),
    )


def plan_transport(job: Job, tuned: Path, scale: float, *, is_folder: bool = False) -> MergePlan:
    """What `transport` would do; of the inputs the first is base B, which the output is like.

    Raises:
        DeepalignError: it would be refused.
    """
    check_scale(scale)
    check_folder(job, (WEIGHTS, CARD)) if is_folder else check_outputs(job, [job.output])
    job, session, checkpoint = opened(job, tuned)
    inputs = fitted_to(session, checkpoint)
    check_mergeable(inputs)
    shards = shards_of(session.fit.wholes[0], job.dtype, job.max_shard) if is_folder else ()
    if is_folder:
        check_weights(job, shards)
    tensors = (
        PlannedTensor(entry.name, entry.dtype, entry.shape, entry.nbytes, None)
        for entry in entries_of(session.fit.wholes[0], job.dtype)
    )
    return MergePlan(
        output=job.output,
        inputs=_sized((*session.inputs, checkpoint)),
        has_base=True,
        method="saved alignments" if job.alignments else session.settings.method,
        groups=_groups(job, session),
        facts={"scale": scale} | _typed(job),
        tensors=tuple(tensors),
        files=tuple(shard.name for shard in shards),
        notes=tuple(notes_on_parts(inputs)),
    )


def _typed(job: Job) -> dict[str, object]:
    return {"dtype": DTYPES[job.dtype].torch_name} if job.dtype else {}


def _groups(job: Job, session: Session) -> dict[str, int] | None:
    if session.settings.method == NAIVE or job.alignments:
        return None
    return dict(session.symmetry.sizes)


def _sized(inputs: Sequence[Checkpoint]) -> tuple[tuple[str, int], ...]:
    return tuple((one.called, sum(info.nbytes for info in one.infos.values())) for one in inputs)


def _tensors(session: Session, merging: Merging, dtype: str | None) -> tuple[PlannedTensor, ...]:
    layout = session.fit.layout
    own = weights_of(merging.rules, layout)
    usual = merging.row.shares(merging.weights)
    entries = {entry.name: entry for entry in entries_of(layout, dtype)}
    tensors = []
    for name, info in layout.infos.items():
        is_combined = name in session.inputs[0] and (info.is_float or info.is_complex)
        weights = own.get(name, usual) if is_combined and merging.row.weighed else None
        if entry := entries.get(info.stored_name):
            tensors.append(PlannedTensor(entry.name, entry.dtype, entry.shape, entry.nbytes, weights))
    return tuple(tensors)
