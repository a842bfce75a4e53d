"""Opening a data set by the source that a user names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.data.arrays import read_npz, read_tensors
from deepalign_cli.data.dataset import Contents, Data, spaced, whole
from deepalign_cli.data.factories import read_factory
from deepalign_cli.data.hub_sets import read_hub
from deepalign_cli.data.image_folder import read_images
from deepalign_cli.data.preparation import STANDARD, Preparation, parse_normalise, undeclared
from deepalign_cli.data.sklearn_sets import read_sklearn
from deepalign_cli.errors import UsageError

_BY_PREFIX: Mapping[str, Callable[[str], Contents]] = {"sklearn": read_sklearn, "hf": read_hub}
_BY_SUFFIX: Mapping[str, Callable[[Path], Contents]] = {".npz": read_npz, ".safetensors": read_tensors}
_KINDS = ".npz, .safetensors, a folder of images, sklearn:NAME, hf:NAME, or file.py:factory"


@dataclass(frozen=True)
class Wanted:
    """How the user wants images prepared; None and False leave that to the files."""

    normalise: str | None = None
    side: int | None = None
    grey: bool = False


def load_data(
    source: str, split: str | None = None, *, wanted: Wanted | None = None,
    declared: Preparation | None = None, limit: int | None = None, contents: Contents | None = None,
) -> Data:  # fmt: skip
    """Open a split (test by default, where there is one) of a data set.

    `declared` is how the networks read raw pixels, from a checkpoint; `wanted` overrides it. Floating-point
    inputs stay as they are unless `wanted` says how to normalise them. `contents` are the splits of a set in
    memory, whose name is `source`.

    Raises:
        UsageError: there is no such source or split, or nothing says how to prepare pixels from 0 to 255.
        DataError: it is broken or empty.
        MissingExtra: it needs a package that is not installed.
    """
    parts, facts = contents or _read(source)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}.", "give 1 or more examples, or leave it out.")
    name = source if source.partition(":")[0] in _BY_PREFIX else Path(source).name or source
    data = whole(name, parts, split, Preparation())
    data = replace(data, preparation=_preparation(data, facts, wanted or Wanted(), declared))
    return replace(data, rows=spaced(len(data), limit))


def _read(source: str) -> Contents:
    prefix, colon, rest = source.partition(":")
    path = Path(source)
    if os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises where a parent may not be read
        return read_images(path)
    if os.path.isfile(source):  # noqa: PTH113 - so does Path.is_file
        reader = _BY_SUFFIX.get(path.suffix.lower())
        if reader is None:
            raise UsageError(f"deepalign cannot read '{source}' as data.", f"give {_KINDS}.")
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
    raw = sample.dtype == torch.uint8
    _check_wanted(wanted, sample)
    known = declared if raw and declared is not None else _declared(facts)
    if raw and known is None and wanted.normalise is None:
        raise undeclared(data.source)
    base = known or Preparation()
    side = base.side if wanted.side is None else wanted.side
    base = replace(base, side=side, grey=wanted.grey or base.grey)
    if wanted.normalise == STANDARD:
        return _standardised(replace(data.training(), preparation=replace(base, mean=(), std=())))
    return base if wanted.normalise is None else parse_normalise(wanted.normalise, base)


def _check_wanted(wanted: Wanted, sample: Tensor) -> None:
    """Raise UsageError where inputs of this type cannot be prepared as the user wants."""
    if wanted.side is not None and wanted.side < 1:
        raise UsageError(f"--side is {wanted.side}.", "give 1 pixel or more.")
    raw, tokens = sample.dtype == torch.uint8, not (sample.is_floating_point() or sample.dtype == torch.bool)
    if raw and wanted.normalise == "none":
        message = "--normalise none leaves pixels from 0 to 255, which no network reads."
        raise UsageError(message, "write unit for [0, 1].")
    if not raw and wanted.normalise == "unit":
        raise UsageError(
            "--normalise unit is for pixels from 0 to 255 (uint8), which these inputs are not.",
            "leave it out: other inputs stay as they are.",
        )
    if tokens and not raw and wanted != Wanted():
        raise UsageError(
            f"the inputs are integers ({str(sample.dtype)[6:]}), which are not normalised.",
            "save images as uint8, from 0 to 255.",
        )


def _declared(facts: Mapping[str, str]) -> Preparation | None:
    """The preparation that a data file's own metadata declares."""
    if not {"mean", "std"} <= set(facts):
        return None
    return Preparation.from_json(f'{{"mean": [{facts["mean"]}], "std": [{facts["std"]}]}}', "the data file")


def _standardised(training: Data) -> Preparation:
    """With the mean and the deviation of all training pixels."""
    count, total, square = 0, 0.0, 0.0
    for x in training.inputs(1000):
        count += x.numel()
        total += float(x.double().sum())
        square += float(x.double().square().sum())
    mean = total / count
    deviation = max(square / count - mean * mean, 0.0) ** 0.5
    return replace(training.preparation, mean=(mean,), std=(deviation or 1.0,))
