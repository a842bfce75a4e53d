"""Squares of the gradients of single examples: many examples at a time where the network allows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import grad, vmap

# A scalar of the weights, of inputs [1, ...] and of what was drawn for them [1, ...].
Objective = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]

_AT_A_TIME = 2**23  # entries of the gradients of all examples that are differentiated at a time
_FEWEST = 16  # examples; fewer at a time take longer than one after the other
_CLOSE = 1e-3  # of the largest entry: how far gradients of one example may be from those taken alone


class SquaredGradients:
    """Sums over examples of (d objective / d leaf)^2, by the leaf's name, on the processor.

    Where the gradients of several examples fit into memory they are taken at once (`torch.func.vmap`). The
    first time one of them is taken alone, too: a network that cannot be run so, or computes something else
    then (it looks at other examples, say), is differentiated example by example.
    """

    def __init__(self, objective: Objective, leaves: Mapping[str, Tensor]) -> None:
        self._objective, self._leaves = objective, dict(leaves)
        size = sum(w.numel() for w in leaves.values())
        fit = _AT_A_TIME // max(size, 1)
        self.at_a_time = fit if fit >= _FEWEST else 1
        self._is_checked = False

    def __call__(self, inputs: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        """The sums over inputs [examples, ...], at most `at_a_time` of them, and what was drawn for each."""
        found = self._at_once(inputs, drawn) if len(inputs) > 1 and self.at_a_time > 1 else None
        if found is None:
            self.at_a_time = 1
            return self._one_by_one(inputs, drawn)
        return found

    def _at_once(self, inputs: Tensor, drawn: Tensor) -> dict[str, Tensor] | None:
        """The sums from all examples at once; None where that is not the same."""

        def alone(leaves: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self._objective(leaves, x[None], y[None])

        try:
            gradients = vmap(grad(alone), in_dims=(None, 0, 0))(self._leaves, inputs, drawn)
        except Exception:  # the user's own forward may raise anything; example by example it raises again
            return None
        if not self._is_checked:
            first = self._gradients(inputs[:1], drawn[:1])
            if not all(_are_close(gradients[name][0].cpu(), g) for name, g in first.items()):
                return None
            self._is_checked = True
        return {name: g.square().sum(0).cpu() for name, g in gradients.items()}

    def _one_by_one(self, inputs: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        sums = {name: torch.zeros(w.shape, dtype=w.dtype) for name, w in self._leaves.items()}
        for x, y in zip(torch.split(inputs, 1), torch.split(drawn, 1), strict=True):
            for name, gradient in self._gradients(x, y).items():
                sums[name] += gradient.square()
        return sums

    def _gradients(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Those of one example; zeros where a leaf is not used."""
        leaves = {name: w.detach().requires_grad_() for name, w in self._leaves.items()}
        with torch.enable_grad():
            objective = self._objective(leaves, x, y)
            found = torch.autograd.grad(objective, [*leaves.values()], allow_unused=True)
        pairs = zip(self._leaves.items(), found, strict=True)
        return {name: (torch.zeros_like(w) if g is None else g).cpu() for (name, w), g in pairs}


def _are_close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _CLOSE * other.abs().max()) if one.numel() else True
