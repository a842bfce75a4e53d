"""What the tests of models share: modules with generic float64 weights, and their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.models.lookup import Network
from tests import nets
from tests.symmetry.builders import seeded


def generic(module: nn.Module, seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    """The module in float64 and evaluation mode, and its weights."""
    module = nets.randomise_(module.double(), seeded(seed)).eval()
    return module, {name: w.clone().contiguous() for name, w in module.state_dict().items()}


def stored(folder: Path, weights: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Checkpoint:
    """A checkpoint with these weights."""
    path = folder / "net.safetensors"
    save_file(dict(weights), path, metadata)
    return open_checkpoint(path)


def inputs(shape: tuple[int, ...], count: int = 5) -> Tensor:
    return torch.randn(count, *shape, generator=seeded(9), dtype=torch.float64)


def same(network: Network, weights: Mapping[str, Tensor], module: nn.Module, x: Tensor) -> bool:
    """Whether a network and a module that holds the same weights agree to 1e-12."""
    with torch.no_grad():
        expected = module(x)
        found = network.run(weights, x)
    assert float(expected.std()) > 1e-6
    return torch.allclose(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
