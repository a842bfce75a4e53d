"""The activation between layers, which names and shapes do not tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import ACTIVATIONS
from deepalign_cli.models.values import Options, one_of, positive

OPTIONS: Mapping[str, str] = {
    "activation": f"relu; one of {', '.join(ACTIVATIONS)}",
    "slope": "0.01; of leaky_relu, PyTorch's 0.01 where not given",
    "w0": "30; the units of activation=sin are sin(w0 z)",
    "first_w0": "30; of the first layer alone, w0 where not given",
}


@dataclass(frozen=True)
class Nonlinearity:
    """The activation behind each layer but the last; `first` follows the first."""

    says: str
    first: Callable[[Tensor], Tensor]
    then: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, number: int) -> Tensor:
        """The activations behind layer `number`, from 0."""
        return self.then(x) if number else self.first(x)


def read_activation(options: Options) -> Nonlinearity:
    """The activation that the options name.

    Raises:
        SpecError: they do not name it, or name sines without w0. UsageError: there is no such activation.
    """
    options.needs("activation")
    name = options.read("activation", one_of(*ACTIVATIONS), "")
    if name == "sin":
        options.needs("w0")
        w0 = options.read("w0", positive, 1.0)
        first = options.read("first_w0", positive, w0)
        says = f"sin({w0:g} z)" if first == w0 else f"sin({w0:g} z), at first sin({first:g} z)"
        return Nonlinearity(says, partial(_sine, first), partial(_sine, w0))
    function = ACTIVATIONS[name]
    if name == "leaky_relu":
        function = partial(functional.leaky_relu, negative_slope=options.read("slope", positive, 0.01))
    return Nonlinearity(name, function, function)


def _sine(w0: float, x: Tensor) -> Tensor:
    return torch.sin(w0 * x)
