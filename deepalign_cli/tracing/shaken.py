"""Random weights and inputs: zeros and ones would hide a wrong spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deepalign_cli.models.example import Example
from deepalign_cli.symmetry.tensors import widened

_SHARE = 0.2  # of a tensor's deviation that is added
_LEAST = 0.01  # of the largest number of a vector: gains of norms are divided by


def shaken(module: nn.Module, rng: torch.Generator, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The module's state with every floating tensor random, in float64; tied names share theirs.

    Tensors that `weights` has take the place of the module's own.
    """
    state: dict[str, Tensor] = {}
    drawn: dict[int, Tensor] = {}
    tensors = {n: w for n, w in module.state_dict(keep_vars=True).items() if isinstance(w, Tensor)}
    given = {id(w): name for name, w in tensors.items() if name in weights}
    for name, w in tensors.items():
        if id(w) not in drawn:
            own = weights[given[id(w)]] if id(w) in given else w.detach()
            drawn[id(w)] = _shaken(name, own, rng) if own.is_floating_point() else own.clone()
        state[name] = drawn[id(w)]
    return state


def _shaken(name: str, w: Tensor, rng: torch.Generator) -> Tensor:
    noise = torch.randn(w.shape, generator=rng).double()  # in single precision: half the time
    if "running_var" in name:
        return noise.abs_().clamp_(max=1).add_(0.5)
    if w.device.type == "meta":
        return _drawn(name, noise)
    w = widened(w)
    spread = float(w.std()) if w.numel() > 1 else 0.0
    noise.mul_(_SHARE * (spread if spread > 0 else 1.0)).add_(w)
    return _off_zero(noise) if noise.ndim == 1 else noise


def _off_zero(vector: Tensor) -> Tensor:
    """The vector without numbers that are nearly zero beside its largest."""
    size = vector.abs()
    if not vector.numel() or not bool(size.isfinite().all()):
        return vector
    return torch.where(vector < 0, -1.0, 1.0) * size.clamp(min=_LEAST * float(size.max()))


def _drawn(name: str, noise: Tensor) -> Tensor:
    """What a fresh layer would hold, about: gains near one, shifts near zero."""
    if noise.ndim < 2:
        return noise.mul_(_SHARE).add_(float("weight" in name))
    fan = noise[0].numel() if noise.shape[0] else 1
    return noise.mul_(max(fan, 1) ** -0.5)


@contextmanager
def settled(module: nn.Module) -> Iterator[None]:
    """A run in here leaves statistics in BatchNorm that go with its inputs.

    With others the signal of a deep network dies on the way, and its outputs would tell nothing.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, norm.momentum, norm.training) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.training = 1.0, True
        yield
    finally:
        for norm, momentum, training in kept:
            norm.momentum, norm.training = momentum, training


def loosen(state: Mapping[str, Tensor], rng: torch.Generator) -> None:
    """Make statistics of BatchNorm random about what they are."""
    for name, mean in state.items():
        var = state.get(name.replace("running_mean", "running_var"))
        if name.endswith("running_mean") and var is not None:
            noise = torch.rand(2, *mean.shape, generator=rng, dtype=mean.dtype) - 0.5
            mean.add_(noise[0] * var.sqrt())
            var.mul_(1 + noise[1]).clamp_(min=1e-30)


def other_inputs(example: Example, rng: torch.Generator) -> Example:
    """Other inputs of the same shapes: numbers drawn anew, tokens and masks in another order."""

    def change(x: Tensor) -> Tensor:
        if x.is_floating_point() and not bool(((x == 0) | (x == 1)).all()):
            return torch.randn(x.shape, generator=rng, dtype=x.dtype) * (x.std() if x.numel() > 1 else 1)
        flat = x.flatten()
        other = flat[torch.randperm(len(flat), generator=rng)]
        return (flat.roll(1) if torch.equal(other, flat) else other).reshape(x.shape)

    return example.mapped(change)


def other_shapes(example: Example) -> list[Example]:
    """The same inputs one example fewer, and of another length or size; a module may not take these."""
    return [example.mapped(change) for change in (_one_example, _other_length, _smaller)]


def _one_example(x: Tensor) -> Tensor:
    return x[:1] if x.ndim > 1 else x


def _other_length(x: Tensor) -> Tensor:
    """A sequence one step shorter, or longer where it has but one."""
    is_sequence = x.ndim == 3 or (x.ndim == 2 and not x.is_floating_point())
    if not is_sequence:
        return x
    return x[:, :-1] if x.shape[1] > 2 else torch.cat([x, x, x], dim=1)


def _smaller(x: Tensor) -> Tensor:
    """The corner of an image."""
    return (
        x[..., : -(x.shape[-2] // 4), : -(x.shape[-1] // 4)] if x.ndim >= 4 and min(x.shape[-2:]) > 3 else x
    )


def same_shapes(a: Example, b: Example) -> bool:
    """Whether two examples have tensors of the same shapes."""
    return [t.shape for t in a.tensors()] == [t.shape for t in b.tensors()]
