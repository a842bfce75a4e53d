"""`trace`: what may move by asking the network; traced once, kept in the cache, checked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.errors import DeepalignError, MismatchError, UsageError
from deepalign_cli.extras import require
from deepalign_cli.measure.spec_check import SpecCheck, check_spec
from deepalign_cli.models.conversions import file_spec
from deepalign_cli.models.input_shape import COUNT
from deepalign_cli.models.lookup import Network, Opened, fit, network_for, open_module
from deepalign_cli.models.renamed import Renamed
from deepalign_cli.models.run import Run
from deepalign_cli.models.runnable import Runnable
from deepalign_cli.models.subject import Subject, bare_subject, subject_of
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.testbed import load_inputs
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.spec import Spec, format_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.cache import cached, keep, key_of
from deepalign_cli.tracing.check import WAYS, Trial, check
from deepalign_cli.tracing.fingerprint import fingerprint
from deepalign_cli.tracing.pipeline import Last, after_check, trace
from deepalign_cli.tracing.write import Traced
from deepalign_cli.version import __version__

_CONFIG = "config.json"
_TURNS = {False: (), True: ("turns",)}  # in the names of traces in the cache
_UNIMPORTANT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


@dataclass(frozen=True)
class TraceReport:
    """A trace, what was traced, and its tensors' shapes.

    `checks` has by how much random elements of each kind changed the outputs, where that was asked for.
    """

    traced: Traced
    says: str
    shapes: Mapping[str, tuple[int, ...]]
    seconds: float
    notes: tuple[str, ...] = ()
    checks: Mapping[str, float] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        """What may move: with what may turn, where that was asked for."""
        return self.traced.turned or self.traced.spec


def trace_source(
    running: RunSettings, a: Path | None = None, outputs: Sequence[str] = (), *, checked: bool = False,
    turns: bool = False, progress: Progress = SILENT,
) -> TraceReport:  # fmt: skip
    """The trace of what `running.model` names, in the names of the checkpoint `a` where there is one.

    A folder with weights is its own checkpoint. With `checked` every kind is tried by itself, too, and with
    `turns` what may turn is found.

    Raises:
        UsageError: nothing names a network, or example inputs are missing. DeepalignError: it cannot be
            built, traced or run.
    """
    started = time.perf_counter()
    path = a or (Path(running.model) if running.model and Path(running.model).is_dir() else None)
    checkpoint = _checkpoint(path, required=a is not None)
    if checkpoint is None:
        return _trace_module(running, outputs, checked, turns, started, progress)
    source = running.model or (str(checkpoint.path) if checkpoint.path.is_dir() else None)
    one = open_module(source, running.arguments) if source else None
    shapes = {n: info.shape for n, info in checkpoint.infos.items() if info.is_float}
    try:
        network = fit(checkpoint, one) if one else network_for(checkpoint, options=running.design)
    except MismatchError:
        own = one if path == checkpoint.path else None
        traced = _trace_converted(checkpoint, own, progress, turns=turns) if own else None
        if traced is None:
            raise
        return TraceReport(traced, traced.spec.source, shapes, time.perf_counter() - started)
    inputs = _first(running, network.preparation)
    subject = _subject(checkpoint, network, running.input_shape, inputs)
    traced = trace_subject(subject, network.says, checkpoint, outputs=outputs, turns=turns, progress=progress)
    checks = _tried(traced.spec, subject, outputs) if checked else {}
    seconds = time.perf_counter() - started
    return TraceReport(
        in_names(traced, subject.names), network.says, shapes, seconds, checkpoint.notes, checks
    )


def _trace_module(
    running: RunSettings, outputs: Sequence[str], checked: bool, turns: bool, started: float,
    progress: Progress,
) -> TraceReport:  # fmt: skip
    if running.model is None:
        raise UsageError("nothing says what to trace.", "deepalign trace --model net.py:make")
    one = open_module(running.model, running.arguments)
    subject = bare_subject(one.module, one.example, running.input_shape, _first(running))
    traced = trace_subject(subject, one.says, outputs=outputs, turns=turns, progress=progress)
    checks = _tried(traced.spec, subject, outputs) if checked else {}
    shapes = {n: tuple(w.shape) for n, w in one.module.state_dict().items() if w.is_floating_point()}
    return TraceReport(traced, one.says, shapes, time.perf_counter() - started, checks=checks)


def _tried(spec: Spec, subject: Subject, outputs: Sequence[str]) -> dict[str, float]:
    """The change of the outputs by random elements of each kind that the spec allows."""
    trial = Trial(subject.module, subject.example, outputs, seed=1)
    kinds = {name: spec.with_kinds(scale=scale, sign=sign) for name, (scale, sign) in WAYS.items()}
    return {
        name: trial.of(Symmetry(one, trial.shapes))[0]
        for name, one in kinds.items()
        if one.kinds or name == "permutations"
    }


def _checkpoint(path: Path | None, *, required: bool) -> Checkpoint | None:
    """A checkpoint; None where none is named, or a folder holds no weights."""
    if path is None:
        return None
    try:
        return open_network(path)
    except DeepalignError:
        if required:
            raise
        return None


def _first(running: RunSettings, declared: Preparation | None = None) -> Tensor | None:
    """A few examples of the data, if there are any."""
    return None if running.data is None else next(load_inputs(running, None, declared).inputs(COUNT))


def trace_checkpoint(
    checkpoint: Checkpoint, network: Network, *, shape: str | None = None, inputs: Tensor | None = None,
    turns: bool = False, last: Last | None = None, progress: Progress = SILENT,
) -> Traced:  # fmt: skip
    """The spec of a checkpoint by its network, in the checkpoint's names; `turns`: and what may turn.

    Raises:
        SpecError: it cannot be traced, or not be run for the check. UsageError: example inputs are missing.
    """
    subject = _subject(checkpoint, network, shape, inputs)
    traced = trace_subject(subject, network.says, checkpoint, turns=turns, last=last, progress=progress)
    return in_names(traced, subject.names)


def trace_subject(
    subject: Subject, says: str, weights: Mapping[str, Tensor] | None = None, *,
    outputs: Sequence[str] = (), turns: bool = False, last: Last | None = None, progress: Progress = SILENT,
) -> Traced:  # fmt: skip
    """The trace of a module, from the cache where it is there.

    One from the cache is checked again: code that the module calls elsewhere may have changed since.
    `weights` are real ones, by the names of `subject.names`; without them those of the module are used.
    `outputs` are the names of those that count. Where `last` keeps the module's program, what turns is found
    without another.
    """
    prints = fingerprint(subject.module, subject.example)
    key, plain = (key_of((__version__, *outputs, *_TURNS[t], *prints)) for t in (turns, False))
    given = None if weights is None else Renamed(weights, {own: name for name, own in subject.names.items()})
    source = f"a trace of {says}"
    if (traced := cached(key)) is not None:
        traced = replace(traced, spec=replace(traced.spec, source=source))
        result = check(traced.spec, subject.module, subject.example, names=outputs, weights=given)
        if not result.failed and _still_turns(traced, subject, outputs, given):
            return after_check(traced, result)
    traced = None
    if turns and last is not None and last.about == plain:
        traced = last.turned(subject.module, subject.example, outputs, given)
    if traced is None:
        traced = trace(
            subject.module, subject.example, outputs=outputs, source=source, turns=turns, weights=given,
            last=last, progress=progress,
        )  # fmt: skip
        if last is not None:
            last.about = plain
    keep(key, traced)
    return traced


def _still_turns(
    traced: Traced, subject: Subject, outputs: Sequence[str], weights: Mapping[str, Tensor] | None
) -> bool:
    """Whether what may turn by a trace from the cache may still."""
    if traced.turned is None:
        return True
    trial = Trial(subject.module, subject.example, outputs, weights=weights)
    return not trial.of(Symmetry(traced.turned, trial.shapes))[1]


def in_names(traced: Traced, names: Mapping[str, str]) -> Traced:
    """The same in a checkpoint's names; `names` has the module's name of each."""
    own = {full: name for name, full in names.items()}
    axes = {name: traced.spec.axes[full] for name, full in names.items() if full in traced.spec.axes}
    stays = {
        reason: [(own.get(full, full), axis) for full, axis in places]
        for reason, places in traced.stays.items()
    }
    turned = traced.turned and traced.turned.renamed(lambda full: own.get(full, full))
    if turned:
        turned = turned.with_axes({name: one for name, one in turned.axes.items() if name in names})
    spec = traced.spec.renamed(lambda full: own.get(full, full)).with_axes(axes)
    return replace(traced, spec=spec, stays=stays, turned=turned)


def folder_key(checkpoint: Checkpoint, *, turns: bool = False) -> str | None:
    """A name for a folder of transformers: its config, its tensors, and the versions that build them.

    The code is the library's, so its version stands for it, and the trace need not be checked again. None
    for what is no such folder.

    Raises:
        MissingExtra: transformers is not installed.
    """
    if not (checkpoint.path.is_dir() and (checkpoint.path / _CONFIG).is_file()):
        return None
    try:
        versions = [version(name) for name in ("torch", "transformers")]
    except PackageNotFoundError:
        require("transformers", "models", "tracing a folder with a config.json")
        return None  # it is there, but no version stands for its code
    config = {k: v for k, v in checkpoint.config.items() if k not in _UNIMPORTANT}
    tensors = [f"{name} {info.shape}" for name, info in checkpoint.infos.items()]
    return key_of((__version__, *_TURNS[turns], *versions, repr(sorted(config.items())), *tensors))


def trace_folder(
    checkpoint: Checkpoint, progress: Progress = SILENT, *, turns: bool = False, last: Last | None = None
) -> Traced | None:
    """The spec of a folder with a config.json of transformers, from the cache where it is there; else None.

    `turns`: and what may turn.

    Raises:
        MissingExtra: transformers is not installed. SpecError: it does not know the network, or it cannot
            be traced.
    """
    key = folder_key(checkpoint, turns=turns)
    if key is None:
        return None
    if (traced := cached(key)) is not None:
        return traced
    one = open_module(str(checkpoint.path), {})
    try:
        network = fit(checkpoint, one)
        traced = trace_checkpoint(checkpoint, network, turns=turns, last=last, progress=progress)
    except MismatchError:
        converted = _trace_converted(checkpoint, one, progress, turns=turns, last=last)
        if converted is None:
            raise
        traced = converted
    keep(key, traced)
    return traced


def _trace_converted(
    checkpoint: Checkpoint, one: Opened, progress: Progress, *, turns: bool = False, last: Last | None = None
) -> Traced | None:
    """The trace of a folder whose files name tensors as transformers' tables of conversions say.

    The check is on the model in memory, with weights of its own.
    """
    subject = bare_subject(one.module, None)
    traced = trace_subject(subject, one.says, turns=turns, last=last, progress=progress)
    found = file_spec(one.module, traced.spec)
    turned = file_spec(one.module, traced.turned) if traced.turned else None
    logical = {info.stored_name: name for name, info in checkpoint.infos.items()}
    if found is None or not found[1].keys() >= logical.keys():
        return None
    spec, shapes = found
    if any(shapes[stored] != checkpoint.infos[name].shape for stored, name in logical.items()):
        return None
    traced = replace(traced, spec=spec, stays={}, turned=turned and turned[0])
    return in_names(traced, {name: stored for stored, name in logical.items()})


def spec_check(
    symmetry: Symmetry, checkpoint: Checkpoint, network: Network, shape: str | None, inputs: Tensor | None,
    seed: int,
) -> SpecCheck:  # fmt: skip
    """Random elements of a symmetry tried on the network.

    Raises:
        SpecError: it cannot be run. UsageError: example inputs are missing.
    """
    return check_spec(subject_of(_run(network), checkpoint, shape, inputs), symmetry, checkpoint, seed)


def example_of(
    checkpoint: Checkpoint, network: Network, shape: str | None, inputs: Tensor | None
) -> tuple[Run, Tensor]:
    """What runs a network, and the inputs that it would be traced with.

    Raises:
        UsageError: example inputs are missing, or it reads something else than one tensor.
    """
    args = _subject(checkpoint, network, shape, inputs).example.args
    if len(args) != 1 or not isinstance(args[0], Tensor):
        raise UsageError("the network does not read one tensor.", "name examples: --data FILE.npz.")
    return _run(network), args[0]


def _subject(checkpoint: Checkpoint, network: Network, shape: str | None, inputs: Tensor | None) -> Subject:
    """What to trace: on inputs that come with the network, which were chosen for it, else on the data."""
    run = _run(network)
    if shape is None and getattr(run, "example", None) is not None:
        inputs = None
    return subject_of(run, checkpoint, shape, inputs)


def _run(network: Network) -> Run:
    """The network itself, without the care for its users' inputs."""
    return network.run.run if isinstance(network.run, Runnable) else network.run


def write_spec(spec: Spec, path: Path, *, force: bool) -> None:
    """Write a spec as TOML, whole or not at all. Raises OutputError where that cannot be done."""
    write_bytes(path, format_spec(spec).encode(), force=force)
