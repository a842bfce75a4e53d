"""The small data sets that scikit-learn contains: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from deepalign_cli.data.dataset import Contents, Part
from deepalign_cli.errors import UsageError
from deepalign_cli.extras import require

_NAMES = ("digits", "iris", "wine", "breast_cancer")
_TRAINING = 0.8


def read_sklearn(name: str) -> Contents:
    """Four fifths of a set as `train`, the rest as `test`, after one fixed shuffle.

    `digits` are uint8 images [n, 8, 8], its 17 levels spread over 0 to 255; the others are rows of float32.

    Raises:
        UsageError: it is none of these sets. MissingExtra: scikit-learn is not installed.
    """
    if name not in _NAMES:
        raise UsageError(f"there is no set 'sklearn:{name}'.", f"one of sklearn:{', sklearn:'.join(_NAMES)}.")
    sets: Any = require("sklearn.datasets", "data", f"sklearn:{name}")
    bunch = getattr(sets, f"load_{name}")()
    inputs = bunch.data.astype(np.float32)
    if name == "digits":
        inputs = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(inputs))
    first = int(len(order) * _TRAINING)
    x, y = torch.from_numpy(inputs), torch.from_numpy(bunch.target.astype(np.int64))
    rows = {"train": order[:first], "test": order[first:]}
    return {split: Part(x[chosen], y[chosen]) for split, chosen in rows.items()}, {}
