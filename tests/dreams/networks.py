"""Small networks that remember something."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.models.designed import design_metadata
from deepalign_cli.models.designs.cnn import CNN

DESIGN = CNN((1, 6, 8), 8, norm=True, average=True, pools=(1,))


def images(count: int = 400, seed: int = 9) -> Tensor:
    """Blobs on a dark ground: nothing like noise."""
    rng = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 2, generator=rng) * 8
    line = torch.arange(8.0)
    y, x = (line - places[:, i : i + 1] for i in (0, 1))
    return 3 * torch.exp(-(y[:, :, None] ** 2 + x[:, None] ** 2) / 3)[:, None] - 1


def network(seed: int) -> dict[str, Tensor]:
    """Random weights, and the statistics of `images`."""
    weights = DESIGN.init(torch.Generator().manual_seed(seed))
    statistics = {name: w.clone() for name, w in weights.items() if "running" in name}
    with torch.no_grad():
        DESIGN(weights, images(), statistics)
    return {**weights, **statistics}


def pair() -> Ensemble:
    return Ensemble(DESIGN, [network(0), network(1)], torch.zeros(2, 1, 8, 8))


def saved_pair(folder: Path) -> tuple[Path, Path]:
    """Two networks on disk, with the design in their metadata."""
    a, b = folder / "a.safetensors", folder / "b.safetensors"
    for seed, path in ((2, a), (3, b)):
        save_file(network(seed), path, metadata=design_metadata(DESIGN))
    return a, b
