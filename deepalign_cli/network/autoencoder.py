"""The autoencoder of weights: a network -> an invariant latent -> one network of its orbit.

Boufalis et al. 2025 ("Symmetry-Aware Graph Metanetwork Autoencoders"). All networks of an orbit have one
latent, so the decoder writes the same weights for all of them: a canonical form, up to the error of the
reconstruction. What it writes is close to the input in function, not equal to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.errors import MismatchError
from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import widened

_TINY = 1e-12
_SETTLED = 512  # networks that the fresh encoder's scales are taken from
_SEVERAL = 8  # numbers, of which a root mean square tells something
_QUIET = 0.1  # of the last layer's initial weights: the first networks that are written are near `start`


@dataclass(frozen=True)
class DecoderConfig:
    """The hidden layers of the decoder, as widths."""

    hidden: tuple[int, ...] = (256, 512)

    def __post_init__(self) -> None:
        if len(self.hidden) > 16 or not all(type(n) is int and n >= 1 for n in self.hidden):
            raise ValueError(f"hidden must be a list of positive integers, not {list(self.hidden)}")


class Autoencoder(nn.Module):
    """An encoder of `metanetworks.METANETWORKS`, and an MLP that writes all tensors of one architecture.

    Tensors are written in units of their root mean square over the training networks, `sizes`.
    `facts` are what its file says of it, `name` what it is called in reports.
    """

    sizes: Tensor

    def __init__(self, blueprint: Blueprint, encoder: nn.Module, decoder: DecoderConfig) -> None:
        super().__init__()
        self.blueprint, self.encoder, self.config = blueprint, encoder, decoder
        self.facts: Mapping[str, str] = {}
        self.name = ""
        self.counts = [math.prod(shape) for shape in blueprint.shapes.values()]
        widths = [int(encoder.config.latent), *decoder.hidden]  # type: ignore[union-attr, arg-type]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.SiLU())]
        self.decoder = nn.Sequential(*layers, nn.Linear(widths[-1], sum(self.counts)))
        self.register_buffer("sizes", torch.ones(len(self.counts)))

    def forward(self, weights: Weights) -> dict[str, Float[Tensor, "batch ..."]]:
        """The decoded tensors of a stack of networks; all by the autoencoder's own names."""
        return self.decode(self.latents(weights))

    def latents(self, weights: Weights) -> Float[Tensor, "batch latent"]:
        """The latents of a stack of networks, whose tensors have the autoencoder's own names."""
        latents: Tensor = self.encoder({name: weights[name] for name in self.blueprint.shapes})
        return latents

    def decode(
        self, latent: Float[Tensor, "*batch latent"], symmetry: Symmetry | None = None
    ) -> dict[str, Float[Tensor, "*batch ..."]]:
        """The tensors of a latent's network, by the names of `symmetry`'s tensors or by its own.

        Raises:
            MismatchError: the symmetry is of another architecture.
        """
        names = self.blueprint.names_in(symmetry) if symmetry is not None else {}
        flat: Tensor = self.decoder(latent)
        parts = zip(
            self.blueprint.shapes.items(), torch.split(flat, self.counts, dim=-1), self.sizes, strict=True
        )
        return {
            names.get(name, name): (size * part).reshape(*latent.shape[:-1], *shape)
            for (name, shape), part, size in parts
        }

    def latent(self, symmetry: Symmetry, tensors: Weights) -> Float[Tensor, " latent"]:
        """The latent of one network: the same for all that differ from it by an element of the symmetry.

        Raises:
            MismatchError: the network is of another architecture.
        """
        names = self.blueprint.names_in(symmetry)
        missing = [there for there in names.values() if there not in tensors]
        if missing:
            raise MismatchError(f"the network has no '{missing[0]}'.", "it needs every tensor of the spec.")
        stack = {own: widened(tensors[there]).to(self.sizes).unsqueeze(0) for own, there in names.items()}
        return self.latents(stack)[0]

    def anchor(self, symmetry: Symmetry, tensors: Weights) -> dict[str, Tensor]:
        """The network that is written for one network and all of its orbit, by the names of its tensors.

        Raises:
            MismatchError: the network is of another architecture.
        """
        return self.decode(self.latent(symmetry, tensors), symmetry)

    def oddest(self, symmetry: Symmetry, tensors: Weights) -> tuple[str, float]:
        """The tensor whose size is furthest from that in the training networks, and the ratio of the two.

        Sizes are root mean squares. Tensors of a few numbers do not count. Where units have scales, they must
        be those of the network that is written: ask of a network that was carried onto its anchor.

        Raises:
            MismatchError: the network is of another architecture.
        """
        names = self.blueprint.names_in(symmetry)
        ratios = {
            names[own]: float(widened(tensors[names[own]]).double().square().mean().sqrt() / size)
            for (own, shape), size in zip(self.blueprint.shapes.items(), self.sizes, strict=True)
            if math.prod(shape) >= _SEVERAL
        }
        return max(ratios.items(), key=lambda one: abs(math.log(one[1] or _TINY)), default=("", 1.0))

    def check_fits(self, symmetry: Symmetry) -> None:
        """Check that it reads the networks of a symmetry.

        Raises:
            MismatchError: they are of another architecture; the message says which it reads.
        """
        self.blueprint.names_in(symmetry)

    @torch.no_grad()
    def begin(self, weights: Weights, start: Weights) -> None:
        """Take the tensors' sizes from training networks, and let the decoder begin near one network."""
        squares = [weights[name].square().mean().sqrt() + _TINY for name in self.blueprint.shapes]
        self.sizes.copy_(torch.stack(squares))
        some = {name: weights[name][:_SETTLED] for name in self.blueprint.shapes}
        self.encoder.settle(some)  # type: ignore[operator]
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(_QUIET)
        flat = [
            start[name].flatten() / size for name, size in zip(self.blueprint.shapes, self.sizes, strict=True)
        ]
        last.bias.copy_(torch.cat(flat))
