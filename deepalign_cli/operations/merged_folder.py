"""A merged network as a folder that can be loaded and shared: weights, what belongs to them, a model card.

A folder that is not there appears complete or not at all. In one that is, the files that are written take the
place of old ones, each in one step; the others stay.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deepalign_cli.checkpoint import Checkpoint, check_output, open_checkpoint
from deepalign_cli.checkpoint.atomic import atomic_file, write_all, write_bytes
from deepalign_cli.checkpoint.files import open_regular
from deepalign_cli.checkpoint.hub import is_reference, parse_reference
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.errors import OutputError, UsageError
from deepalign_cli.measure.curve import Curve
from deepalign_cli.merge.linear import Path as Interpolation
from deepalign_cli.operations.card import Facts, Ingredient, card
from deepalign_cli.operations.combine import Advance, Job, Report, merge_files
from deepalign_cli.operations.companions import companions
from deepalign_cli.operations.inputs import open_network

WEIGHTS, CARD = "model.safetensors", "README.md"
# What readers of folders would take in place of the merged weights.
_SHADOWS = ("model.safetensors.index.json",)
_PICTURES = (".png", ".svg", ".pdf")
_OWN_CODE = "config.json names code of its own (auto_map), which was not copied: no code is"
_CHUNK = 1 << 20
_FOLDERS = re.compile(r"(?<![\w.:/-])/(?:[^/\s'\"]+/)+")
# Of the metadata, what the card says elsewhere or not at all.
_UNTOLD = ("method", "command", "weights", "spec", "tied", "design", "preparation", "input.", "sha256.")


@dataclass(frozen=True)
class Story:
    """What the card tells besides the merge itself: its title, how it was asked for, and measured losses.

    `options` follow the inputs in the command that makes the network again; `picture` is a drawing of the
    curves (PNG, SVG or PDF), which is copied beside the card; `notes` are what was said of the measurement.
    """

    title: str
    options: Sequence[str]
    curves: Sequence[Curve] = ()
    picture: Path | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class FolderReport:
    """The report of the merge, whose output is the folder, and the names of the files written, card last."""

    report: Report
    files: tuple[str, ...]


def merge_folder(
    job: Job,
    story: Story,
    weights: Sequence[float] = (0.5, 0.5),
    path: Interpolation = Interpolation.LINEAR,
    advance: Advance = lambda _: None,
) -> FolderReport:
    """Merge as `merge_files` does into the folder `job.output`, with the companions of the first input.

    Raises:
        UsageError: a file to be written exists and is not to be overwritten, or is an input.
        DeepalignError: an input does not fit, or the folder cannot be written.
    """
    folder = job.output
    check_folder(job)  # before anything is fetched
    reference = open_network(job.inputs[0])
    beside, left_out = companions(reference)
    copies = dict(beside) | ({_picture_name(story.picture): story.picture} if story.picture else {})
    _check_files(job, (*copies, WEIGHTS, CARD))
    with _made(folder) as place:
        report = merge_files(replace(job, output=place / WEIGHTS), weights, path, advance)
        notes = (*report.notes, *left_out, *((_OWN_CODE,) if "auto_map" in reference.config else ()))
        report = replace(report, notes=notes)
        for name, source in copies.items():
            _copy(source, place / name, force=job.settings.force)
        facts = _facts(story, report, open_checkpoint(place / WEIGHTS), _library(reference), job)
        write_bytes(place / CARD, card(facts).encode(), force=job.settings.force)
    return FolderReport(replace(report, output=folder), (WEIGHTS, *copies, CARD))


# --- where it is written --------------------------------------------------------------------------


def check_folder(job: Job) -> None:
    """Refuse, before any work, a folder that could not be written in the end.

    Raises:
        UsageError: it is no folder, an input, or holds what is not to be overwritten. OutputError: so.
    """
    folder = job.output
    if not real_target(folder).exists():
        check_output(folder, force=False, inputs=job.inputs)
        return
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder.", "name another, or leave out the / for a file.")
    for source in job.inputs:
        if not is_reference(source) and source.is_dir() and folder.samefile(source):
            raise UsageError(f"'{folder}' is one of the inputs.", "name another folder.")
    for name in _SHADOWS:
        if os.path.lexists(folder / name):
            raise UsageError(
                f"'{folder / name}' would be read in place of the merged weights.",
                "remove it, or name another folder.",
            )
    _check_files(job, (WEIGHTS, CARD))


def _check_files(job: Job, names: Sequence[str]) -> None:
    if real_target(job.output).is_dir():
        inputs = [source for source in job.untouchable if not is_reference(source)]
        for name in names:
            check_output(job.output / name, force=job.settings.force, inputs=inputs)


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """Where to write: the folder if it is there, else a hidden one that becomes it when all went well."""
    target = real_target(folder)
    if target.is_dir():
        yield target
        return
    hidden = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}.partial"
    with _reported(folder):
        hidden.mkdir()
    try:
        yield hidden
        with _reported(folder):
            _publish(hidden, target, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def _reported(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"'{folder}' cannot be written: {error.strerror or type(error).__name__}."
        raise OutputError(message, "check the folder and its permissions.") from None


def _publish(hidden: Path, target: Path, folder: Path) -> None:
    _sync(hidden)
    try:
        hidden.rename(target)
    except OSError:
        if not target.exists():
            raise
        raise UsageError(f"'{folder}' exists.", "name another folder.") from None
    _sync(target.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path, *, force: bool) -> None:
    with open_regular(source) as (file, stamp), atomic_file(target, stamp.size, force=force) as out:
        while chunk := file.read(_CHUNK):
            write_all(out, chunk)


def _picture_name(picture: Path) -> str:
    suffix = picture.suffix.lower()
    if suffix not in _PICTURES:
        raise UsageError(f"'{picture}' cannot be shown on a card.", f"draw it as {', '.join(_PICTURES)}.")
    return f"curve{suffix}"


# --- what the card tells --------------------------------------------------------------------------


def _facts(story: Story, report: Report, made: Checkpoint, library: str, job: Job) -> Facts:
    told = {k.removeprefix("deepalign."): v for k, v in made.metadata.items() if k.startswith("deepalign.")}
    moved = sum(group["moved"] for group in report.groups.values())
    units = sum(group["size"] for group in report.groups.values())
    inputs = _ingredients(told, report)
    return Facts(
        title=story.title,
        inputs=inputs,
        method=report.method,
        making={key: value for key, value in told.items() if not key.startswith(_UNTOLD)},
        command=["deepalign", "merge", *(one.name for one in inputs), *story.options],
        library=library,
        moved=(moved, units),
        notes=_without_folders(tuple(dict.fromkeys((*story.notes, *report.notes))), job.inputs),
        curves=story.curves,
        picture=_picture_name(story.picture) if story.picture else None,
    )


def _ingredients(told: Mapping[str, str], report: Report) -> list[Ingredient]:
    found = []
    for i, share in enumerate(json.loads(told["weights"])):
        name = told[f"input.{i}"]
        repository = parse_reference(name).repo if is_reference(name) else None
        distances = report.distances[i - 1] if i else None
        found.append(Ingredient(name, told[f"sha256.{i}"], share, repository, distances))
    return found


def _without_folders(notes: Sequence[str], inputs: Sequence[Path]) -> tuple[str, ...]:
    """The notes without where on this machine files lie, which a card need not tell the world."""
    for source in inputs:
        if source.is_absolute():
            notes = [note.replace(f"{source.parent}{os.sep}", "") for note in notes]
    return tuple(_FOLDERS.sub("", note) for note in notes)


def _library(reference: Checkpoint) -> str:
    """What loads the folder, by its config.json."""
    return "transformers" if isinstance(reference.config.get("model_type"), str) else "pytorch"
