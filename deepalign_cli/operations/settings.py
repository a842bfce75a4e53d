"""What a user can set about finding an alignment, and the open inputs that it is found for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch

from deepalign_cli.align.activations import ActivationMatching, Evidence
from deepalign_cli.align.alignment import Aligner
from deepalign_cli.align.deepalign import LearnedAligner, Refine
from deepalign_cli.align.dual import SHARE, DualMatching
from deepalign_cli.align.none import NoAlignment
from deepalign_cli.align.weights import WeightMatching
from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import NonFiniteError, SpecError, UsageError
from deepalign_cli.network.pretrained import (
    DEFAULT_NETWORK,
    load_pretrained,
    network_name,
    resolve_network,
)
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.resolve import blank_spec, resolve_spec, shapes_of
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry

__all__ = [
    "Method", "Refine", "Settings", "bind", "check_finite", "group_rows", "is_finite", "open_network",
]  # fmt: skip


class Method(StrEnum):
    """The aligners by name."""

    DEEPALIGN = "deepalign"
    WEIGHTS = "weights"
    ACTIVATIONS = "activations"
    DUAL = "dual"
    NONE = "none"


@dataclass(frozen=True)
class Settings:
    """How to find the spec and the alignment; `force` overwrites files and overrides hashes.

    `restarts` is for the method weights; `network` (see `resolve_network`), `refine` and `sketches` are
    for the method deepalign; `share` for dual.
    """

    method: Method = Method.DEEPALIGN
    spec: Path | None = None
    activation: Activation | None = None
    heads: int | None = None
    restarts: int | None = None
    seed: int = 0
    force: bool = False
    network: str = DEFAULT_NETWORK
    refine: Refine = Refine.AUTO
    sketches: int = 8
    share: float = SHARE

    def aligner(self, evidence: Evidence | None = None) -> Aligner:
        """The aligner that these settings ask for; `evidence` is a network to run and data.

        Raises:
            UsageError: there is no such network, or data are needed and there are none.
            CheckpointError: the network cannot be had, or is no aligner.
        """
        if self.method is Method.NONE:
            return NoAlignment()
        if self.method is Method.WEIGHTS:
            return WeightMatching(self.restarts)
        if self.method is not Method.DEEPALIGN:
            return self._seeing(evidence)
        network = load_pretrained(self.network)
        name = network_name(self.network)
        return LearnedAligner(network, name, self.sketches, self.refine, evidence=evidence)

    def _seeing(self, evidence: Evidence | None) -> Aligner:
        if evidence is None:
            raise UsageError(f"-m {self.method} looks at data.", "name them: --data mnist.npz")
        if self.method is Method.ACTIVATIONS:
            return ActivationMatching(evidence)
        return DualMatching(evidence, self.share)

    def making(self) -> dict[str, object]:
        """What an output's metadata say of the method, besides its name and the seed.

        Raises:
            UsageError, CheckpointError: as `aligner`.
        """
        if self.method is Method.DUAL:
            return {"share": self.share}
        if self.method is not Method.DEEPALIGN:
            return {}
        return {
            "network.name": network_name(self.network),
            "network.sha256": open_checkpoint(resolve_network(self.network)).sha256(),
            "refine": self.refine.value,
            "sketches": self.sketches,
        }

    def rng(self) -> torch.Generator:
        """A generator seeded with `seed`."""
        return torch.Generator().manual_seed(self.seed)


def bind(reference: Checkpoint, settings: Settings) -> Symmetry:
    """The symmetry of the reference, by `settings`; the naive method needs none that is known.

    Raises:
        SpecError: no spec fits; AmbiguousError: more than one does.
    """
    try:
        spec = resolve_spec(reference, settings.spec, settings.activation, settings.heads)
    except SpecError:
        if settings.method is not Method.NONE or settings.spec:
            raise
        spec = blank_spec(reference)
    return Symmetry(spec, shapes_of(reference))


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
