"""What every design is, and the layers that several share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from deepalign_cli.symmetry.symmetry import Weights

Statistics = dict[str, Tensor]


@runtime_checkable
class Design(Protocol):
    """An architecture: how its weights begin, and what it computes with them."""

    def __hash__(self) -> int: ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        ...

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        """Fresh weights, as PyTorch's layers initialise theirs."""
        ...

    def __call__(
        self, weights: Weights, x: Shaped[Tensor, "batch ..."], statistics: Statistics | None = None
    ) -> Float[Tensor, "batch *places out"]:
        """The outputs; of text, at every place.

        With `statistics`, norms use the batch's, and write them into the tensors it holds.
        """
        ...


def reads_tokens(design: Design) -> bool:
    """Whether a design reads whole numbers, of which it has `tokens`."""
    return hasattr(design, "tokens")


def examples_of(design: Design, count: int, rng: torch.Generator) -> Shaped[Tensor, "count ..."]:
    """Random examples that a design reads: normal numbers, or tokens."""
    shape = (count, *design.input_shape)
    if reads_tokens(design):
        return torch.randint(design.tokens, shape, generator=rng)  # type: ignore[attr-defined]
    return torch.randn(shape, generator=rng)


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sin": torch.sin,
}


def check_activation(name: str) -> None:
    """Raise ValueError unless there is an activation of this name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"there is no activation '{name}'")


def uniform(rng: torch.Generator, bound: float, *shape: int) -> Tensor:
    """Uniform numbers in [-bound, bound].

    Made in place: for new tensors without memory, on "meta", torch would load its compiler, for a second.
    """
    return torch.rand(shape, generator=rng).mul_(2).sub_(1).mul_(bound)


def normal(rng: torch.Generator, deviation: float, *shape: int) -> Tensor:
    """Normal numbers of mean zero; on "meta" nothing is drawn, for the same reason."""
    made = torch.empty(shape)
    return made if made.is_meta else made.normal_(generator=rng).mul_(deviation)


def linear_init(rng: torch.Generator, name: str, n_out: int, n_in: int) -> dict[str, Tensor]:
    """`nn.Linear`'s initial weight and bias."""
    bound = n_in**-0.5
    return {f"{name}.weight": uniform(rng, bound, n_out, n_in), f"{name}.bias": uniform(rng, bound, n_out)}


def conv_init(
    rng: torch.Generator, name: str, c_out: int, c_in: int, kernel: int, *, bias: bool
) -> dict[str, Tensor]:
    """`nn.Conv2d`'s initial weight and, perhaps, bias."""
    bound = (c_in * kernel**2) ** -0.5
    weights = {f"{name}.weight": uniform(rng, bound, c_out, c_in, kernel, kernel)}
    return weights | ({f"{name}.bias": uniform(rng, bound, c_out)} if bias else {})


def layer_norm_init(name: str, n: int) -> dict[str, Tensor]:
    """`nn.LayerNorm`'s parameters."""
    return {f"{name}.weight": torch.ones(n), f"{name}.bias": torch.zeros(n)}


def norm_init(name: str, n: int) -> dict[str, Tensor]:
    """`nn.BatchNorm2d`'s parameters and statistics."""
    statistics = {f"{name}.running_mean": torch.zeros(n), f"{name}.running_var": torch.ones(n)}
    return layer_norm_init(name, n) | statistics


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """`nn.Linear`."""
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def batch_norm(weights: Weights, name: str, x: Tensor, statistics: Statistics | None) -> Tensor:
    """`nn.BatchNorm2d` with stored statistics, or the batch's, written where `statistics` has room."""
    mean, var = f"{name}.running_mean", f"{name}.running_var"
    w, b = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if statistics is None:
        return functional.batch_norm(x, weights[mean], weights[var], w, b)
    return functional.batch_norm(x, statistics.get(mean), statistics.get(var), w, b, True, momentum=1.0)


def layer_norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    """`nn.LayerNorm` over the last axis."""
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])
