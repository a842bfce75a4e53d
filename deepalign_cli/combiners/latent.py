"""The network that an autoencoder writes for the mean of networks' latents (Boufalis et al. 2025).

Latents are the same for all networks of an orbit, so nothing is aligned before. What comes out is another
function than that of any average of weights, and with one network alone not that network's: see its
reconstruction error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.errors import MismatchError
from deepalign_cli.network.fitting_autoencoder import fitting_autoencoder
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import narrowed


@dataclass(frozen=True)
class LatentMean:
    """D(sum_i weights[i] z_i), with D the decoder and z_i the latent of network i.

    `statistics` has for each network its `latent` [latent], and the `model` and `symmetry` of all. What the
    autoencoder does not write, as integers, is the first network's.
    """

    weights: Sequence[float]
    statistics: Sequence[Mapping[str, Any]] = ()

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        first = tensors[0]
        return narrowed(self._written[name], first.dtype, name) if name in self._written else first

    @cached_property
    def _written(self) -> dict[str, Float[Tensor, " ..."]]:
        """All tensors of the network. Raises MismatchError where one is not finite."""
        model, symmetry = self.statistics[0]["model"], self.statistics[0]["symmetry"]
        pairs = zip(self.weights, self.statistics, strict=True)
        latent = torch.stack([weight * one["latent"] for weight, one in pairs]).sum(0)
        with torch.no_grad():
            written: dict[str, Tensor] = model.decode(latent, symmetry)
        if not all(bool(w.isfinite().all()) for w in written.values()):
            raise MismatchError(
                f"the autoencoder '{model.name}' writes no finite weights for these networks.",
                "they are far from those that it was trained on: use another combiner.",
            )
        return written


def encoded(
    symmetry: Symmetry, networks: Sequence[Weights], autoencoder: str | None = None
) -> list[dict[str, object]]:
    """The latents of networks, with what decodes them: by the autoencoder of that name, or the one that fits.

    Raises:
        UsageError: there is none of that name. CheckpointError: it is no autoencoder.
        MismatchError: it is not for such networks, or none that comes with deepalign is.
    """
    model = fitting_autoencoder(symmetry, autoencoder)
    with torch.no_grad():
        latents = [model.latent(symmetry, weights) for weights in networks]
    return [{"latent": latent, "model": model, "symmetry": symmetry} for latent in latents]
