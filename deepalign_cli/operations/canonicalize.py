"""`canonicalize`: each network in its canonical place, or in the place of it what an autoencoder writes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.anchored import AnchorMatching
from deepalign_cli.checkpoint import Checkpoint, Entry, write_safetensors
from deepalign_cli.errors import DeepalignError, MismatchError
from deepalign_cli.models.run import Run
from deepalign_cli.operations.job import Job, check_outputs
from deepalign_cli.operations.provenance import Hashes, provenance, with_hashes
from deepalign_cli.operations.session import Session
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensors import narrowed, widened
from deepalign_cli.symmetry.unrounded import unrounded

Example = tuple[Run, Tensor]

# Times as large or small as in the training networks. The shipped autoencoders' own networks are off by up to
# 1.6 times in some tensor, networks trained otherwise by up to 3.2, fresh ones by 4 to 22, and SIRENs with w0
# inside their weights by 30. The error of the weights tells nothing (docs/results.md).
_OTHER_SIZE = 4
_KEEP = "leave --decoded out, which keeps the function, or say how far off it may be: --max-error."


@dataclass(frozen=True)
class Canonical:
    """One network: what carries it to its canonical place, and how far it is from its anchor there.

    `apart` is the distance of the weights from the anchor's, relative to the size of the weights. `error` is
    the root mean square difference of the anchor's outputs, relative to the deviation of the network's own;
    None where nothing says what computes with the weights. `oddest` is the tensor whose size is furthest from
    that in the networks that the autoencoder was trained on, and how many times as large it is.
    """

    output: Path
    alignment: Alignment
    apart: float
    error: float | None
    autoencoder: str
    oddest: tuple[str, float] = ("", 1.0)

    @property
    def is_foreign(self) -> bool:
        """Whether the network's sizes are none of a network that the autoencoder was trained on."""
        return not 1 / _OTHER_SIZE < self.oddest[1] < _OTHER_SIZE

    @property
    def oddity(self) -> str:
        """How the network differs most in size from those that the autoencoder was trained on."""
        name, ratio = self.oddest
        size = f"{ratio:.3g} times" if ratio >= 1 else f"1/{1 / ratio:.3g} of" if ratio else "none of"
        return f"its '{name}' has {size} the size that it has in the networks of its training"

    @property
    def reconstruction(self) -> float:
        """What `--max-error` limits: the error of the outputs or, where that is not known, of the weights."""
        return self.apart if self.error is None else self.error


def canonicalize_each(
    job: Job, outputs: Sequence[Path], *, decoded: bool = False, limit: float | None = None,
    progress: Progress = SILENT,
) -> tuple[tuple[Canonical, ...], tuple[str, ...]]:  # fmt: skip
    """Write each input of a job in its canonical place; `decoded`: what the autoencoder writes, instead.

    Returns the reports, and what the user should know. Nothing is written where a reconstruction is further
    off than `limit`.

    Raises:
        UsageError: an output is in the way. MismatchError: no autoencoder is for such networks; or what is
            decoded, without a limit, is of another kind than those.
        DeepalignError: an input cannot be read, or an output not be written.
    """
    check_outputs(job, outputs)
    job, session = job.open()
    session.check_finite()
    symmetry = session.symmetry
    aligner = session.settings.aligner()
    assert isinstance(aligner, AnchorMatching)
    stage = progress.part(1.0, "finding canonical places", len(session.inputs))
    notes = tuple(dict.fromkeys([n for c in session.inputs for n in c.notes] + [*symmetry.spec.notes]))
    example, found = _example(session), []
    with Hashes(session.inputs) as hashes:
        for checkpoint, output in zip(session.inputs, outputs, strict=True):
            found.append(_found(symmetry, aligner, checkpoint, output, example))
            stage()
        reports = tuple(one for one, _ in found)
        doubts = [*_oddities(session.inputs, reports), *(_unknown(reports) if decoded else ())]
        notes = tuple(dict.fromkeys([*notes, *doubts]))
        if limit is not None and max(one.reconstruction for one in reports) > limit:
            return reports, notes
        if decoded and limit is None:
            _check_kind(session.inputs, reports, _KEEP)
        for place, (checkpoint, (one, anchor)) in enumerate(zip(session.inputs, found, strict=True)):
            _write(job, checkpoint, one, anchor if decoded else None, hashes.of(place)())
    return reports, notes


def reconstructions(session: Session) -> tuple[Canonical, ...]:
    """What the autoencoder of `-m canonical` makes of each input, as far as it is off.

    Raises:
        MismatchError: no autoencoder is for such networks, or one is of another kind.
    """
    aligner, example = session.settings.aligner(), _example(session)
    assert isinstance(aligner, AnchorMatching)
    session.check_finite()
    found = tuple(_found(session.symmetry, aligner, one, one.path, example)[0] for one in session.inputs)
    _check_kind(session.inputs, found, "average the weights of such networks: leave --combine latent out.")
    return found


def notes_on_latents(inputs: Sequence[Checkpoint], found: Sequence[Canonical]) -> Iterator[str]:
    """What to tell of a network that an autoencoder wrote for several; nothing where none did."""
    if not found:
        return
    wrote = f"{found[0].autoencoder} wrote the network"
    yield f"{wrote}: another function than any mean of the inputs' weights"
    for checkpoint, one in zip(inputs, found, strict=True):
        outputs = "" if one.error is None else f", outputs {one.error:.3g}"
        yield f"its reconstruction error on {checkpoint.called} alone: weights {one.apart:.3g}{outputs}"
    yield from _unknown(found)


def _unknown(found: Sequence[Canonical]) -> Iterator[str]:
    """What to tell where an autoencoder writes another function, and nothing shows how near it is."""
    if any(one.error is None for one in found):
        yield (
            "the error of the outputs is not known, since nothing says what computes with the weights (of "
            "sines, w0), and that of the weights does not tell it: add --model"
        )


def _oddities(inputs: Sequence[Checkpoint], found: Sequence[Canonical]) -> Iterator[str]:
    """For each network that is not of the kind that its autoencoder was trained on, why."""
    for checkpoint, one in zip(inputs, found, strict=True):
        if one.is_foreign:
            yield f"'{checkpoint.called}' is none of the kind that {one.autoencoder} is for: {one.oddity}"


def _check_kind(inputs: Sequence[Checkpoint], found: Sequence[Canonical], hint: str) -> None:
    """Refuse networks for which an autoencoder would write what has nothing to do with them.

    Raises:
        MismatchError: there is one.
    """
    for problem in _oddities(inputs, found):
        raise MismatchError(f"{problem}.", hint)


def _found(
    symmetry: Symmetry, aligner: AnchorMatching, checkpoint: Checkpoint, output: Path, example: Example | None
) -> tuple[Canonical, Mapping[str, Tensor]]:
    started = time.perf_counter()
    anchor = aligner.anchor(symmetry, checkpoint)
    element = unrounded(symmetry, aligner.carried(symmetry, checkpoint, anchor), checkpoint)
    before, after = (distance(symmetry, anchor, checkpoint, g) for g in (None, element))
    size = math.sqrt(sum(float(widened(checkpoint[name]).double().square().sum()) for name in anchor))
    name = aligner.model(symmetry).name
    seconds = time.perf_counter() - started
    alignment = Alignment(symmetry, element, "canonical", seconds, before, after)
    apart = after / size if size else 0.0
    carried = {n: symmetry.act(element, n, widened(checkpoint[n])) for n in anchor}
    oddest = aligner.model(symmetry).oddest(symmetry, carried)
    return Canonical(output, alignment, apart, _error(example, checkpoint, anchor), name, oddest), anchor


def _example(session: Session) -> Example | None:
    """What runs the networks, and a few inputs; None where nothing says what computes with the weights."""
    try:
        return session.asked.example()
    except DeepalignError:
        return None


def _error(example: Example | None, checkpoint: Checkpoint, anchor: Mapping[str, Tensor]) -> float | None:
    """How far the anchor's outputs are from the network's, relative to the deviation of these."""
    if example is None:
        return None
    run, inputs = example
    weights = {name: widened(w) for name, w in checkpoint.items()}
    other = {name: anchor[name].to(w) if name in anchor else w for name, w in weights.items()}
    try:
        with torch.no_grad():
            own, written = run(weights, inputs), run(other, inputs)
    except DeepalignError:
        return None
    deviation = float((own - own.mean(0)).square().mean().sqrt())
    return float((own - written).square().mean().sqrt()) / (deviation or 1.0)


def _write(
    job: Job, checkpoint: Checkpoint, one: Canonical, anchor: Mapping[str, Tensor] | None,
    hashes: tuple[str, ...],
) -> None:  # fmt: skip
    facts = {
        "command": "canonicalize", "method": "canonical", "autoencoder": one.autoencoder,
        "decoded": anchor is not None,
    }  # fmt: skip
    spec = one.alignment.symmetry.spec
    metadata = with_hashes(provenance(checkpoint, [checkpoint], spec, facts, whole_spec=True), hashes)
    infos = [info for info in checkpoint.infos.values() if not info.is_implied]
    names = {info.stored_name: info.name for info in infos}

    def read(stored: str) -> Tensor:
        name = names[stored]
        own = checkpoint[name]
        if anchor is None:
            return one.alignment.act(name, own)
        return narrowed(anchor[name].to(widened(own)), own.dtype, name) if name in anchor else own

    entries = [Entry(info.stored_name, info.dtype, info.shape) for info in infos]
    one.output.parent.mkdir(exist_ok=True)
    write_safetensors(one.output, entries, read, metadata, force=job.settings.force, inputs=job.untouchable)
