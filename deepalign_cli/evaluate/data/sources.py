"""Opening a data set by what a user calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.evaluate.data.arrays import read_npz, read_tensors
from deepalign_cli.evaluate.data.data import Contents, Data, spaced, whole
from deepalign_cli.evaluate.data.factories import read_factory
from deepalign_cli.evaluate.data.hub_sets import read_hub
from deepalign_cli.evaluate.data.images import read_images
from deepalign_cli.evaluate.data.preparation import STANDARD, Preparation, parse_normalise, undeclared
from deepalign_cli.evaluate.data.sklearn_sets import read_sklearn

_BY_PREFIX: Mapping[str, Callable[[str], Contents]] = {"sklearn": read_sklearn, "hf": read_hub}
_BY_SUFFIX: Mapping[str, Callable[[Path], Contents]] = {".npz": read_npz, ".safetensors": read_tensors}
_KINDS = ".npz, .safetensors, a folder of images, sklearn:NAME, hf:NAME, or file.py:factory"


@dataclass(frozen=True)
class Wanted:
    """How the user wants images prepared; None and False leave it to the files."""

    normalise: str | None = None
    side: int | None = None
    grey: bool = False


def load_data(
    source: str, split: str | None = None, *, wanted: Wanted | None = None,
    declared: Preparation | None = None, limit: int | None = None,
) -> Data:  # fmt: skip
    """Open a split (test by default, where there is one) of a data set.

    `declared` is how the networks read raw pixels, from a checkpoint; `wanted` goes before it. Numbers
    that are not whole are taken as they are unless `wanted` says how to normalise them.

    Raises:
        UsageError: there is no such source or split, or nothing says what becomes of whole-number pixels.
        DataError: it is broken or empty.
        MissingExtra: it needs a package that is not installed.
    """
    parts, facts = _read(source)
    name = Path(source).name if ":" not in source else source
    data = whole(name, parts, split, Preparation())
    data = replace(data, preparation=_preparation(data, facts, wanted or Wanted(), declared))
    return replace(data, rows=spaced(len(data), limit))


def _read(source: str) -> Contents:
    prefix, colon, rest = source.partition(":")
    path = Path(source)
    if path.is_dir():
        return read_images(path)
    if path.is_file():
        reader = _BY_SUFFIX.get(path.suffix.lower())
        if reader is None:
            raise UsageError(f"'{source}' is no kind of data that is read.", f"give {_KINDS}.")
        return reader(path)
    if colon and prefix in _BY_PREFIX:
        return _BY_PREFIX[prefix](rest)
    if colon and rest:
        return read_factory(source)
    raise UsageError(f"there is no data set '{source}'.", f"give {_KINDS}.")


def _preparation(
    data: Data, facts: Mapping[str, str], wanted: Wanted, declared: Preparation | None
) -> Preparation:
    sample, _ = data.part.read(torch.arange(1))
    raw = sample.dtype == torch.uint8 and (sample.ndim > 2 or declared is not None or _own(facts) is not None)
    base = declared if raw and declared is not None else _own(facts) or Preparation()
    base = replace(base, side=wanted.side or base.side, grey=wanted.grey or base.grey)
    if wanted.normalise == STANDARD:
        return _standardised(replace(data.training(), preparation=replace(base, mean=(), std=())))
    if wanted.normalise is not None:
        if wanted.normalise == "none" and sample.dtype == torch.uint8:
            raise UsageError("pixels from 0 to 255 are read as they are by no network.", "write unit.")
        return parse_normalise(wanted.normalise, base)
    if sample.dtype == torch.uint8 and declared is None and _own(facts) is None:
        raise undeclared(data.source)
    return base


def _own(facts: Mapping[str, str]) -> Preparation | None:
    """What a file's own metadata declare."""
    if not {"mean", "std"} <= set(facts):
        return None
    return Preparation.from_json(f'{{"mean": [{facts["mean"]}], "std": [{facts["std"]}]}}', "the data file")


def _standardised(training: Data) -> Preparation:
    """With the mean and the deviation of all training pixels."""
    count, total, square = 0, 0.0, 0.0
    for x in training.inputs(1000):
        count += x.numel()
        total += float(x.sum(dtype=torch.float64))
        square += float(x.square().sum(dtype=torch.float64))
    mean = total / count
    deviation = max(square / count - mean * mean, 0.0) ** 0.5
    return replace(training.preparation, mean=(mean,), std=(deviation or 1.0,))
