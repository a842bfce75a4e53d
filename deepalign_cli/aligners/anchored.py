"""Matching by canonical networks: each network is carried onto the anchor that an autoencoder writes for it.

All networks that differ by an element of the symmetry have one anchor (Boufalis et al. 2025), so each is
carried to its place by itself, and N networks need N matches. The anchor computes something a little
different; what is carried onto it is the network itself, which computes what it did.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.errors import MismatchError
from deepalign_cli.network.autoencoder import Autoencoder
from deepalign_cli.network.fitting_autoencoder import fitting_autoencoder
from deepalign_cli.network.saved_autoencoder import load_autoencoder
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import widened

_SEED = 0  # of the orders that a match tries: a network's place must not depend on who asks


class AnchorMatching:
    """Carries networks onto their anchors, and so onto one another.

    `autoencoder` is the name of one that comes with deepalign, a path, or hf://org/repo/file; without it the
    first that comes with deepalign and fits is taken.

    Raises:
        UsageError: there is none of that name. CheckpointError: it is no autoencoder.
    """

    def __init__(self, autoencoder: str | None = None) -> None:
        self._model = None if autoencoder is None else load_autoencoder(autoencoder)
        self._kept: tuple[Weights, Symmetry, Element] | None = None

    def model(self, symmetry: Symmetry) -> Autoencoder:
        """The autoencoder of these networks.

        Raises:
            MismatchError: it is not for such networks, or none that comes with deepalign is.
        """
        if self._model is None:
            self._model = fitting_autoencoder(symmetry)
        self._model.check_fits(symmetry)
        return self._model

    def anchor(self, symmetry: Symmetry, weights: Weights) -> dict[str, Tensor]:
        """The network that the autoencoder writes for this one, by the same names.

        Raises:
            MismatchError: it is not for such networks, or writes no finite numbers for this one.
        """
        model = self.model(symmetry)
        with torch.no_grad():
            anchor = model.anchor(symmetry, weights)
        if not all(bool(w.isfinite().all()) for w in anchor.values()):
            raise MismatchError(
                f"the autoencoder '{model.name}' writes no finite weights for this network.",
                "it is far from those that the autoencoder was trained on: use another method.",
            )
        return anchor

    def carried(self, symmetry: Symmetry, weights: Weights, anchor: Mapping[str, Tensor]) -> Element:
        """The element that carries a network onto its anchor."""
        rng = torch.Generator().manual_seed(_SEED)
        moving = {name: widened(weights[name]).double() for name in anchor}
        wide = {name: w.double() for name, w in anchor.items()}
        return WeightMatching()(symmetry, wide, moving, rng=rng).element

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        own = self._placed(symmetry, reference)
        progress(0.5)
        element = own.inverse() @ self.carried(symmetry, moving, self.anchor(symmetry, moving))
        progress(0.5)
        before, after = (distance(symmetry, reference, moving, g) for g in (None, element))
        details: dict[str, object] = {"autoencoder": self.model(symmetry).name}
        return Alignment(
            symmetry, element, "canonical", time.perf_counter() - started, before, after, (), details
        )

    def _placed(self, symmetry: Symmetry, reference: Weights) -> Element:
        """The reference's own element: kept from one call to the next."""
        kept = self._kept
        if kept is None or kept[0] is not reference or kept[1] is not symmetry:
            kept = reference, symmetry, self.carried(symmetry, reference, self.anchor(symmetry, reference))
            self._kept = kept
        return kept[2]
