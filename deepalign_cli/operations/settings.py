"""What a user can set about finding an alignment, and the open inputs that it is found for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch

from deepalign_cli.align import Aligner, NoAlignment, WeightMatching
from deepalign_cli.align.artifact import ALIGNMENT_KEY
from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import CheckpointError, NonFiniteError
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.resolve import resolve_spec, shapes_of
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry


class Method(StrEnum):
    """The aligners by name."""

    WEIGHTS = "weights"
    NONE = "none"


@dataclass(frozen=True)
class Settings:
    """How to find the spec and the alignment; `force` overwrites files and overrides hashes."""

    method: Method = Method.WEIGHTS
    spec: Path | None = None
    activation: Activation | None = None
    heads: int | None = None
    restarts: int | None = None
    seed: int = 0
    force: bool = False

    def aligner(self) -> Aligner:
        """The aligner that these settings ask for."""
        return NoAlignment() if self.method is Method.NONE else WeightMatching(self.restarts)

    def rng(self) -> torch.Generator:
        """A generator seeded with `seed`."""
        return torch.Generator().manual_seed(self.seed)


def bind(reference: Checkpoint, settings: Settings) -> Symmetry:
    """The symmetry of the reference, by `settings`.

    Raises:
        SpecError: no spec fits; AmbiguousError: more than one does.
    """
    spec = resolve_spec(reference, settings.spec, settings.activation, settings.heads)
    return Symmetry(spec, shapes_of(reference))


def open_network(path: Path) -> Checkpoint:
    """Open a checkpoint of a network.

    Raises:
        UsageError: there is no such file. CheckpointError: it is broken, or a saved alignment.
    """
    checkpoint = open_checkpoint(path)
    if ALIGNMENT_KEY in checkpoint.metadata:
        raise CheckpointError(
            f"'{path}' is a saved alignment, not a network.",
            "give it to --alignment, after the two networks.",
        )
    return checkpoint


def check_finite(checkpoint: Checkpoint) -> None:
    """Check that no floating-point tensor holds NaN or Inf.

    Raises:
        NonFiniteError: one does; it is named.
    """
    for name, info in checkpoint.infos.items():
        if info.is_float and not is_finite(checkpoint[name]):
            raise NonFiniteError(
                f"'{name}' in '{checkpoint.path}' holds NaN or Inf.",
                "the training has diverged; take an earlier checkpoint.",
            )


def is_finite(w: torch.Tensor) -> bool:
    """Whether all entries are finite; one pass unless the sum overflows."""
    wide = w if w.dtype in (torch.float32, torch.float64) else w.float()
    return bool(wide.sum().isfinite()) or bool(wide.isfinite().all())


def group_rows(symmetry: Symmetry, element: Element) -> dict[str, dict[str, int]]:
    """`{group: {size, moved}}`, as the commands report it."""
    return {g: {"size": n, "moved": element.moved(g)} for g, n in symmetry.sizes.items()}
