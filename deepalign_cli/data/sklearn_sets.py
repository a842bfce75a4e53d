"""The small sets that scikit-learn carries: nothing is downloaded."""

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
    found = getattr(sets, f"load_{name}")()
    if name == "digits":
        inputs = np.rint(found.images * (255 / 16)).astype(np.uint8)
    else:
        inputs = found.data.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(inputs))
    first = int(len(order) * _TRAINING)
    places = {"train": order[:first], "test": order[first:]}
    x, y = torch.from_numpy(inputs), torch.from_numpy(found.target.astype(np.int64))
    return {split: Part(x[rows], y[rows]) for split, rows in places.items()}, {}
