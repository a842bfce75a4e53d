"""Autoencoders that were not trained: invariant, and far from what they read; and what trained ones write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.models.designs import Design
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.network.autoencoder import Autoencoder, DecoderConfig
from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.metanetworks import make_metanetwork
from deepalign_cli.network.saved_autoencoder import load_autoencoder, save_autoencoder
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.train.known import traced_spec

DESIGN = Siren((2, 8, 6, 1))


def siren(seed: int) -> dict[str, Tensor]:
    """A network of the design with random weights."""
    return DESIGN.init(torch.Generator().manual_seed(seed))


def symmetry() -> Symmetry:
    """What may move in it: with signs and phases."""
    return Symmetry(traced_spec(DESIGN), {name: tuple(w.shape) for name, w in siren(0).items()})


def fresh(path: Path | None = None) -> Autoencoder:
    """An autoencoder for it, saved where a path is given."""
    torch.manual_seed(0)
    blueprint = Blueprint(symmetry())
    encoder = make_metanetwork(blueprint, {"encoder": "scalegmn", "channels": 4, "layers": 2, "latent": 8})
    model = Autoencoder(blueprint, encoder, DecoderConfig((16,)))
    networks = [siren(seed) for seed in range(4)]
    model.begin({n: torch.stack([one[n] for one in networks]) for n in networks[0]}, siren(9))
    with torch.no_grad():
        model.decoder[-1].weight.mul_(50)  # so that what it writes depends on what it reads
    if path is not None:
        save_autoencoder(path, model)
    return model.eval().requires_grad_(False)


def written(name: str, design: Design, seed: int) -> dict[str, Tensor]:
    """A network that a shipped autoencoder wrote, so that it is for such; its units are moved."""
    tensors = design.init(torch.Generator().manual_seed(seed))
    known = Symmetry(traced_spec(design), {n: tuple(w.shape) for n, w in tensors.items()})
    anchor = load_autoencoder(name).anchor(known, tensors)
    element = replace(known.random(torch.Generator().manual_seed(seed)), shift={})
    return {n: w.detach().contiguous() for n, w in known.apply(element, anchor).items()}
