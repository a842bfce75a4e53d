"""The symmetry of a checkpoint by asking its network: traced once, kept in the cache, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.measure.spec_check import SpecCheck, check_spec
from deepalign_cli.models.lookup import Network, network_for
from deepalign_cli.models.runnable import Runnable
from deepalign_cli.models.subject import Subject, subject_of
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.trace.cache import cached, keep, key_of
from deepalign_cli.trace.check import check
from deepalign_cli.trace.fingerprint import fingerprint
from deepalign_cli.trace.trace import after_check, trace
from deepalign_cli.trace.write import Traced
from deepalign_cli.version import __version__

_CONFIG = "config.json"
_UNIMPORTANT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


def trace_checkpoint(
    checkpoint: Checkpoint, network: Network, *, shape: str | None = None, inputs: Tensor | None = None,
    progress: Progress = SILENT,
) -> Traced:  # fmt: skip
    """The spec of a checkpoint by its network, in the checkpoint's names.

    Raises:
        SpecError: it cannot be traced, or not be run for the check. UsageError: example inputs are missing.
    """
    subject = _subject(checkpoint, network, shape, inputs)
    return in_names(trace_subject(subject, network.says, checkpoint, progress), subject.names)


def trace_subject(
    subject: Subject, says: str, weights: Mapping[str, Tensor] | None = None, progress: Progress = SILENT
) -> Traced:
    """The trace of a module, from the cache where it is there.

    One from the cache is checked again: code that the module calls elsewhere may have changed since.
    `weights` are real ones, by the names of `subject.names`; without them those of the module are used.
    """
    key = key_of((__version__, *fingerprint(subject.module, subject.example)))
    given = None if weights is None else {own: weights[name] for name, own in subject.names.items()}
    if (traced := cached(key)) is not None:
        result = check(traced.spec, subject.module, subject.example, weights=given)
        if not result.failed:
            return after_check(traced, result)
    source = f"a trace of {says}"
    traced = trace(subject.module, subject.example, source=source, weights=given, progress=progress)
    keep(key, traced)
    return traced


def in_names(traced: Traced, names: Mapping[str, str]) -> Traced:
    """The same in a checkpoint's names; `names` has the module's name of each."""
    own = {full: name for name, full in names.items()}
    spec = traced.spec
    axes = {name: spec.axes[full] for name, full in names.items() if full in spec.axes}
    groups = {g for one in axes.values() for axis in one for g in axis.groups()}
    sizes = {g: n for g, n in spec.sizes.items() if g in groups}
    kinds = {g: kind for g, kind in spec.kinds.items() if g in groups}
    stays = {
        reason: [(own.get(full, full), axis) for full, axis in places]
        for reason, places in traced.stays.items()
    }
    return replace(traced, spec=replace(spec, axes=axes, sizes=sizes, kinds=kinds), stays=stays)


def folder_key(checkpoint: Checkpoint) -> str | None:
    """A name for a folder of transformers: its config, its tensors, and the versions that build them.

    The code is the library's, so its version stands for it, and the trace need not be checked again.
    """
    if not (checkpoint.path.is_dir() and (checkpoint.path / _CONFIG).is_file()):
        return None
    try:
        versions = [version(name) for name in ("torch", "transformers")]
    except PackageNotFoundError:
        return None
    config = {k: v for k, v in checkpoint.config.items() if k not in _UNIMPORTANT}
    tensors = [f"{name} {info.shape}" for name, info in checkpoint.infos.items()]
    return key_of((__version__, *versions, repr(sorted(config.items())), *tensors))


def trace_folder(checkpoint: Checkpoint, progress: Progress = SILENT) -> Traced | None:
    """The spec of a folder with a config.json of transformers, from the cache where it is there; else None.

    Raises:
        MissingExtra: transformers is not installed. SpecError: it does not know the network, or it cannot
            be traced.
    """
    key = folder_key(checkpoint)
    if key is None:
        return None
    if (traced := cached(key)) is not None:
        return traced
    network = network_for(checkpoint, str(checkpoint.path))
    traced = trace_checkpoint(checkpoint, network, progress=progress)
    keep(key, traced)
    return traced


def spec_check(
    symmetry: Symmetry, checkpoint: Checkpoint, network: Network, shape: str | None, inputs: Tensor | None,
    seed: int,
) -> SpecCheck:  # fmt: skip
    """Random elements of a symmetry tried on the network.

    Raises:
        SpecError: it cannot be run. UsageError: example inputs are missing.
    """
    return check_spec(_subject(checkpoint, network, shape, inputs), symmetry, checkpoint, seed)


def _subject(checkpoint: Checkpoint, network: Network, shape: str | None, inputs: Tensor | None) -> Subject:
    run = network.run.run if isinstance(network.run, Runnable) else network.run
    return subject_of(run, checkpoint, shape, inputs)
