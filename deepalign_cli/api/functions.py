"""The verbs of the Python face. Each takes networks as paths, checkpoints, state dicts or modules."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from deepalign_cli.aligners import methods
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.api.arguments import Source, open_source, open_sources, testbed_of
from deepalign_cli.api.results import Barrier, LandscapeResult
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.combiners import table as combiners
from deepalign_cli.errors import UsageError
from deepalign_cli.operations.align import write_aligned
from deepalign_cli.operations.barrier import Question, barrier_of
from deepalign_cli.operations.job import Job, check_outputs
from deepalign_cli.operations.landscape import landscape_of
from deepalign_cli.operations.merge import Merge, Merging, write_merge
from deepalign_cli.operations.provenance import Hashes
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.verify import Verdict, verify_session
from deepalign_cli.symmetry.spec import Activation

_SETTINGS = ("spec", "activation", "heads", "seed", "force")
_RUNNING = (
    "splits", "limit", "samples", "batch_size", "normalise", "side", "grey", "loss", "arguments", "design",
)  # fmt: skip
Out = str | os.PathLike[str] | None


def open(source: Source) -> Checkpoint:
    """A checkpoint: a mapping of names to tensors that are read as they are asked for.

    Raises:
        UsageError: there is no such file. CheckpointError: it is broken, or no checkpoint.
    """
    return open_source(source)


def align(
    a: Source, b: Source, *, method: str = methods.DEFAULT, model: Any = None, data: Any = None,
    out: Out = None, **options: Any,
) -> Alignment:  # fmt: skip
    """The alignment that carries `b` onto `a`; `alignment.apply(weights)` moves a network's tensors.

    `model` (a module; by default the first of the inputs that is one) and `data` (arrays, a DataLoader, a
    path) are for methods that use data. `out` names a file to write aligned b to. `options` are the
    method's (`restarts=5`), the settings' (`spec`, `activation`, `heads`, `seed`), and those of the data
    (`normalise`, `limit`, `loss`, ...), named as on the command line.

    Raises:
        DeepalignError: the inputs do not fit each other, the architecture is not known, or an option may not
            be used.
    """
    session, _ = _session([a, b], method, model, data, options, measured=False)
    alignment = session.alignments()[0]
    if out is not None:
        job = _job(session, out)
        with Hashes(session.inputs) as hashes:
            write_aligned(job, session, [alignment], [job.output], hashes, time.perf_counter())
    return alignment


def merge(
    networks: Sequence[Source], *, alpha: float | None = None, weights: Sequence[float] | None = None,
    combine: str = combiners.DEFAULT, base: Source | None = None, method: str = methods.DEFAULT,
    model: Any = None, data: Any = None, repair: bool = False, out: Out = None, **options: Any,
) -> dict[str, Tensor]:  # fmt: skip
    """The state dict of the network that all are merged into, aligned to the first (or to `base`).

    Two networks give (1 - alpha) A + alpha aligned(B); `weights` are one for each of more. With `repair`,
    statistics are put right on `data`. `out` names a file to write, too; the other options are those of
    `align`, and the combiner's.

    Raises:
        DeepalignError: as `align`; UsageError: the weights do not fit the networks.
    """
    sources = [*([] if base is None else [base]), *networks]
    row = combiners.COMBINERS.find(combine)
    own = {p.name: options.pop(p.name) for p in row.parameters if p.name in options}
    if alpha is not None and (weights is not None or len(networks) != 2):
        raise UsageError("alpha is for two networks, without weights.", "give weights, one for each.")
    shares = weights or ([1 / len(networks)] * len(networks) if alpha is None else [1 - alpha, alpha])
    merging = Merging(tuple(shares), combine, own)
    merging.check(len(sources))
    if repair and data is None:
        raise UsageError("repair needs data.", "give data=...")
    session, _ = _session(sources, method, model, data, options, measured=False)
    made = Merge(session, merging, "data" if repair else None)
    if out is not None:
        job = _job(session, out, repair="data" if repair else None)
        with Hashes(session.inputs) as hashes:
            write_merge(job, made, job.output, hashes, time.perf_counter())
    stored = {info.name: info.stored_name for info in session.reference.infos.values()}
    return {stored[name]: tensor for name, tensor in made.tensors.items()}


def barrier(
    a: Source, *others: Source, method: str | Sequence[str] = methods.DEFAULT, model: Any = None,
    data: Any = None, points: int = 25, repair: bool = False, **options: Any,
) -> Barrier:  # fmt: skip
    """Loss and accuracy along the path from `a` to aligned `b`, by one method or several; naive included.

    Arguments are those of `align`.

    Raises:
        UsageError: there are no data. DeepalignError: as `align`, or the model does not fit the data.
    """
    names = (method,) if isinstance(method, str) else tuple(method)
    session, _ = _session([a, *others], names[0], model, data, options, measured=True)
    if session.testbed is None:
        raise UsageError("barrier measures losses on data.", "give data=(inputs, labels), or a DataLoader.")
    question = Question((), names, session.settings, points=points, repair=repair)
    return Barrier(barrier_of(session, question))


def landscape(
    a: Source, b: Source, c: Source | None = None, *, method: str = methods.DEFAULT, model: Any = None,
    data: Any = None, points: int = 25, **options: Any,
) -> LandscapeResult:  # fmt: skip
    """The loss on the plane through `a`, `b` and aligned `b`, or through three networks as they are.

    Arguments are those of `align`.

    Raises:
        UsageError: there are no data. DeepalignError: as `barrier`.
    """
    options.setdefault("limit", 1000)
    sources = [a, b, *([] if c is None else [c])]
    session, _ = _session(sources, method, model, data, options, measured=True)
    return LandscapeResult(landscape_of(session, points))


def verify(a: Source, b: Source, *, tolerance: float | None = None, **options: Any) -> Verdict:
    """Whether the two are the same function up to a symmetry: `same`, `residual`, and the tensor it is in.

    `options` are the settings' (`spec`, `activation`, `heads`, `seed`) and `restarts`.

    Raises:
        DeepalignError: the inputs do not fit each other, or the architecture is not known.
    """
    session, _ = _session([a, b], "weights", None, None, options, measured=False)
    return verify_session(session, tolerance=tolerance)


def _session(
    sources: Sequence[Source], method: str, model: Any, data: Any, options: Mapping[str, Any], *,
    measured: bool,
) -> tuple[Session, list[Checkpoint]]:  # fmt: skip
    """The inputs, opened together, with the settings that the options make."""
    chosen = {name: value for name, value in options.items() if name in _SETTINGS}
    running = {name: value for name, value in options.items() if name in _RUNNING}
    own = {name: v for name, v in options.items() if name not in (*_SETTINGS, *_RUNNING)}
    known = {p.name for row in methods.METHODS.values() for p in row.parameters}
    for name in own:
        if name not in known:
            raise UsageError(f"there is no option '{name}'.", "docs/api.md lists them.")
    if isinstance(chosen.get("activation"), str):
        chosen["activation"] = Activation(chosen["activation"])
    if isinstance(chosen.get("spec"), str):
        chosen["spec"] = Path(chosen["spec"])
    settings = Settings(method, own, **chosen)
    opened = open_sources(sources)
    testbed = testbed_of(sources, opened, model, data, settings.activation, running, measured=measured)
    return Session(opened, settings, testbed), opened


def _job(session: Session, out: str | os.PathLike[str], repair: str | None = None) -> Job:
    inputs = tuple(file for checkpoint in session.inputs for file in checkpoint.files)
    job = Job(inputs, Path(out), session.settings, repair=repair)
    check_outputs(job, [job.output])
    return job
