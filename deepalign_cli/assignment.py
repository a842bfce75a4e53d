"""From similarities to permutations: exactly (linear assignment) or softly (Sinkhorn)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from deepalign_cli.errors import NonFiniteError

_PRICED_FROM = 256  # units; below, pricing costs more than it saves
_INCREMENT = 0.05  # of the gain's spread: the least raise of a bid
_ROUNDS = 200
_LEFT_OVER = 50  # pricing stops when one unit in this many is unassigned


def assign(gain: Float[Tensor, "n n"]) -> Int64[Tensor, " n"]:
    """The permutation p that maximises sum_i gain[i, p[i]], exactly.

    Where every row likes another column best, that is the answer. Else an auction prices the columns,
    then scipy's modified Jonker-Volgenant (Crouse 2016) solves the reduced problem
    gain[i, j] - u[i] - v[j], whose optimum is the same for any u and v and which starts almost solved.
    `benchmarks/assignment.py` compares this with scipy alone and with the LAP packages on gain matrices
    of trained networks. Ties are broken the same way every time.

    Raises:
        NonFiniteError: the gain holds NaN or Inf.
    """
    dense = gain.detach().cpu().numpy()
    if not np.isfinite(dense).all():
        raise NonFiniteError(
            "the weights are too large to be compared: products of theirs hold NaN or Inf.",
            "convert both checkpoints to float64.",
        )
    favourites = dense.argmax(axis=1)
    if len(np.unique(favourites)) == len(favourites):  # no two rows want the same column
        return torch.from_numpy(favourites).long()
    cost = np.negative(dense, dtype=np.float64)
    if len(cost) >= _PRICED_FROM:
        prices = auction_prices(dense)
        cost += (dense - prices).max(axis=1).astype(np.float64)[:, None]
        cost += prices.astype(np.float64)
    _, columns = _solver()(cost)
    return torch.from_numpy(columns).long()


def log_sinkhorn(logits: Float[Tensor, "*batch n n"], iterations: int = 20) -> Float[Tensor, "*batch n n"]:
    """The logarithm of the doubly stochastic matrix that scales exp(logits), differentiable by unrolling.

    Rows and columns are scaled at once, each by the root of what it lacks, so that the transposed logits
    give the transposed matrix at any number of iterations (Sinkhorn 1967; averaged as in Knopp 1968 and
    Feydy et al. 2019). Only two matrix-vector products are made an iteration; the logits may span about
    80 in float32.
    """
    half = (logits.amax(-1, keepdim=True) + logits.amax(-2, keepdim=True)) / 2
    shifted = logits - half
    smallest = torch.finfo(logits.dtype).tiny  # products of denormal numbers are slow
    kernel = torch.nn.functional.threshold(shifted.exp(), smallest, 0.0)
    u = torch.ones_like(logits[..., :1])
    v = torch.ones_like(logits[..., :1])
    tiny = smallest**0.5
    for _ in range(iterations):
        rows, columns = (kernel @ v).clamp(min=tiny), (kernel.mT @ u).clamp(min=tiny)
        u, v = (u / rows).sqrt(), (v / columns).sqrt()
    return shifted.add_(u.log()).add_(v.log().mT)


def auction_prices(gain: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """Prices of the columns at which most rows can be given a column that they like best.

    Bertsekas' auction (1988), all unassigned rows bidding at once, stopped before its slow end.
    """
    n = len(gain)
    prices = np.zeros(n, gain.dtype)
    owner = np.full(n, -1)  # the row that holds each column
    held = np.full(n, -1)  # the column that each row holds
    increment = float(_INCREMENT * gain.std(dtype=np.float64)) + 1e-30
    for _ in range(_ROUNDS):
        free = np.flatnonzero(held < 0)
        if len(free) * _LEFT_OVER <= n:
            break
        column, margin = _favourites(gain[free] - prices)
        bids = prices[column] + margin + increment
        order = np.argsort(bids, kind="stable")  # the last write, the highest bid, stays
        winner, best = np.full(n, -1), prices.copy()
        winner[column[order]], best[column[order]] = free[order], bids[order]
        sold = np.flatnonzero(winner >= 0)
        outbid = owner[sold]
        held[outbid[outbid >= 0]] = -1
        owner[sold], held[winner[sold]] = winner[sold], sold
        prices = best
    return prices


def _favourites(value: Float[np.ndarray, "m n"]) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """For each row its best column, and by how much it beats the second best."""
    rows = np.arange(len(value))
    column = value.argmax(axis=1)
    best = value[rows, column]
    value[rows, column] = -np.inf
    return column, best - value.max(axis=1)


@cache
def _solver() -> Callable[[Any], Any]:
    """The linear_sum_assignment of scipy.

    It is one compiled module that needs nothing of scipy, where `import scipy.optimize` takes half a
    second: a quarter of what the whole of torch takes.
    """
    package = find_spec("scipy")
    places = (package.submodule_search_locations if package else None) or []
    spec = PathFinder.find_spec("_lsap", [f"{place}/optimize" for place in places])
    if spec is None or spec.loader is None:
        module = import_module("scipy.optimize")
    else:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    solver: Callable[[Any], Any] = module.linear_sum_assignment
    return solver
