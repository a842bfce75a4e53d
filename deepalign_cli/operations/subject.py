"""What networks are run as and on, as a user says it, and opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from deepalign_cli.align.running import Run
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import DataError, DeepalignError, NonFiniteError
from deepalign_cli.evaluate.barrier import Tally, tally
from deepalign_cli.evaluate.data import Data, Preparation, load_data, parse_normalise
from deepalign_cli.evaluate.losses import Loss, pick_loss
from deepalign_cli.evaluate.models import network_for
from deepalign_cli.symmetry.spec import Activation

MATCHED_ON = 5000
REPAIRED_ON = 2000


@dataclass(frozen=True)
class Subject:
    """The options; see the help of `deepalign barrier`. Without `data` nothing is run.

    `samples` is how many training examples activation matching and repair look at, `batch_size` how many
    examples are run at a time.
    """

    model: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    design: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    splits: tuple[str, ...] = ()
    limit: int | None = None
    samples: int | None = None
    batch_size: int = 1000
    normalise: str | None = None
    side: int | None = None
    grey: bool = False
    loss: str | None = None
