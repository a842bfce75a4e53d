"""Dreams of networks that read tokens: text that they write themselves, or random tokens."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.errors import DeepalignError
from deepalign_cli.models.calls import Calls
from deepalign_cli.models.run import Run
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Weights

_LENGTHS = (32, 16)  # of what is written, the longest that runs


class _LookedUp(Calls):
    """The tables that tokens are looked up in."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.tables: list[Tensor] = []

    def looked_up(self, name: str) -> None:
        self.tables.append(self.weights[name])


def vocabulary(ensemble: Ensemble) -> Float[Tensor, " tokens"]:
    """How often to draw each token: in proportion to the size of its row, so never one that is not used."""
    network = _LookedUp(ensemble.networks[0])
    network.run(ensemble.run, ensemble.like)
    most = int(ensemble.like.max()) + 1
    tables = [table for table in network.tables if len(table) >= most] or [torch.ones(most, 1)]
    sizes = min(tables, key=len).float().norm(dim=1).cpu()
    return sizes if sizes.sum() > 0 else torch.ones_like(sizes)


def random_tokens(
    ensemble: Ensemble, count: int, shape: tuple[int, ...], rng: torch.Generator
) -> Int64[Tensor, "count ..."]:
    """Tokens drawn one by one."""
    many = count * math.prod(shape)
    drawn = torch.multinomial(vocabulary(ensemble), many, replacement=True, generator=rng)
    return drawn.reshape(count, *shape)


@torch.no_grad()
def is_causal(ensemble: Ensemble) -> bool:
    """Whether a network scores every token of its vocabulary at every place, from what stands before."""
    x = ensemble.like
    if x.ndim != 2 or x.shape[1] < 2:
        return False
    changed = x.clone()
    changed[:, -1] = (x[:, -1] + 1) % (int(x.max()) + 1)
    first, second = (ensemble.run(ensemble.networks[0], tokens) for tokens in (x, changed))
    shown = first.ndim == 3 and first.shape[1] == x.shape[1] and first.shape[2] >= int(x.max()) + 1
    return shown and torch.allclose(first[:, :-1], second[:, :-1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def written(
    ensemble: Ensemble, count: int, rng: torch.Generator, progress: Progress = SILENT
) -> Int64[Tensor, "n t"]:
    """Text that the networks write, each its share, token by token by their own predictions; in any order."""
    length = next((n for n in _LENGTHS if _runs(ensemble, n)), ensemble.like.shape[1])
    first = random_tokens(ensemble, count, (1,), rng)
    parts = []
    for network, start in zip(ensemble.networks, first.tensor_split(len(ensemble.networks)), strict=True):
        text = start
        while len(text) and text.shape[1] < length:
            text = torch.cat([text, _next(ensemble.run, network, text, rng)], dim=1)
            progress(1 / length / len(ensemble.networks))
        parts.append(text)
    return torch.cat(parts)[torch.randperm(count, generator=rng)]


def _next(run: Run, network: Weights, text: Tensor, rng: torch.Generator) -> Int64[Tensor, "n 1"]:
    chances = run(network, text)[:, -1].float().softmax(1)
    return torch.multinomial(chances.nan_to_num(), 1, generator=rng)


def _runs(ensemble: Ensemble, length: int) -> bool:
    try:
        ensemble.run(ensemble.networks[0], ensemble.like[:1, :1].repeat(1, length))
    except (DeepalignError, RuntimeError, IndexError, ValueError):  # no place has a position of its own
        return False
    return True
