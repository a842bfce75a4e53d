"""RegMean (Jin et al. 2023, arXiv 2212.09849): linear layers with outputs nearest to those of all networks.

Of all W the least sum_i w_i |x W' - x W_i'|^2 over the inputs x that layer i sees has
W' = (sum_i w_i G_i)^-1 sum_i w_i G_i W_i', with G_i = sum_x x' x the Gram matrix of these inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.models.calls import Call, Calls, LayerKind
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import narrowed

_RIDGE = 1e-6  # of the mean of the diagonal: in directions that no input has, the average is plain


@dataclass(frozen=True)
class InputGram:
    """The mean of x' x over the inputs of a layer, and the axis of its weight that reads them."""

    matrix: Float[Tensor, "n n"]
    axis: int


@dataclass(frozen=True)
class RegressionMean:
    """(sum_i w_i G_i)^-1 sum_i w_i G_i W_i' for the weights of linear layers; all else is averaged.

    Entries of G_i off the diagonal are multiplied by `off_diagonal`. `statistics` has the Gram matrices of
    each network, by the weight's name.
    """

    weights: Sequence[float]
    off_diagonal: float = 0.9
    statistics: Sequence[Mapping[str, InputGram]] = ()

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        if not self.statistics or not all(name in one for one in self.statistics):
            return WeightedMean(self.weights)(name, tensors)
        grams = [one[name] for one in self.statistics]
        axis = grams[0].axis
        left, right = 0.0 * grams[0].matrix, 0.0 * tensors[0].double().movedim(axis, 0)
        for weight, gram, w in zip(self.weights, grams, tensors, strict=True):
            g = weight * self._steadied(gram.matrix)
            left, right = left + g, right + g @ w.double().movedim(axis, 0)
        solved = torch.linalg.solve(left, right).movedim(0, axis)
        return narrowed(solved.contiguous(), tensors[0].dtype, name)

    def _steadied(self, gram: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        diagonal = gram.diagonal()
        ridge = _RIDGE * float(diagonal.mean()) or 1.0
        return self.off_diagonal * gram + torch.diag((1 - self.off_diagonal) * diagonal + ridge)


def input_grams(
    run: Run, weights: Weights, batches: Batches, *, seed: int = 0, values: bool = False
) -> dict[str, InputGram]:
    """The Gram matrices, in float64, of what every linear layer reads; one batch of inputs in memory.

    `seed` and `values` are for statistics that draw outputs.
    """
    seen = _Inputs(weights)
    for batch in batches():
        seen.run(run, batch)
    return {name: InputGram(total / seen.rows[name], seen.axes[name]) for name, total in seen.totals.items()}


class _Inputs(Calls):
    """While a network runs: the sums of x' x of its linear layers, by the names of their weights."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.totals: dict[str, Tensor] = {}
        self.rows: dict[str, int] = {}
        self.axes: dict[str, int] = {}

    def reads(self, call: Call) -> None:
        """Add what enters a linear layer."""
        if call.layer is LayerKind.CONV or not call.fits or call.weight.ndim != 2:
            return
        x = call.input.detach().reshape(-1, call.input.shape[-1]).cpu().double()
        self.axes[call.name] = call.read
        self.rows[call.name] = self.rows.get(call.name, 0) + len(x)
        self.totals[call.name] = self.totals.get(call.name, 0.0 * x.new_zeros(1)) + x.T @ x
