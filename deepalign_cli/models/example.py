"""Example inputs of a module, and which of its outputs count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Example:
    """What a module is called with: values by position and by name."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """All tensors among the values."""
        return [*tensors_in(self.args), *tensors_in(dict(self.kwargs))]

    def mapped(self, change: Any) -> Example:
        """The same with every tensor changed."""
        return Example(_mapped(self.args, change), _mapped(dict(self.kwargs), change))


class Outputs(nn.Module):
    """A module whose outputs are the tensors that count.

    Where a result has logits, these are what the network is for; else all tensors in it count, but for
    caches of keys and values. `names` picks some by name instead.
    """

    def __init__(self, module: nn.Module, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.module, self.names = module, tuple(names)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """The tensors that count."""
        return tuple(t for t in chosen(self.module(*args, **kwargs), self.names) if t.is_floating_point())


def example_of(inputs: object) -> Example:
    """What a user's factory returns beside a module: a tensor, a tuple of arguments, or a dict by name."""
    if isinstance(inputs, Mapping):
        return Example((), dict(inputs))
    return Example(tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,))


def chosen(out: object, names: Sequence[str] = ()) -> list[Tensor]:
    """The tensors of a result that count.

    Raises:
        KeyError: it does not have one of the names. TypeError: its outputs have no names.
    """
    if names and not isinstance(out, Mapping):
        raise TypeError(f"there is no output '{names[0]}': what it returns has no names")
    if names and isinstance(out, Mapping):
        return [t for name in names for t in tensors_in(out[name])]
    if isinstance(out, Mapping) and isinstance(out.get("logits"), Tensor):
        return [out["logits"]]
    if isinstance(out, Mapping):
        return [t for key, x in out.items() if key != "past_key_values" for t in tensors_in(x)]
    return list(tensors_in(out))


def tensors_in(x: object) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and mappings."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, Mapping):
        for one in x.values():
            yield from tensors_in(one)
    elif isinstance(x, Sequence) and not isinstance(x, str | bytes):
        for one in x:
            yield from tensors_in(one)


def _mapped(x: Any, change: Any) -> Any:
    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, dict):
        return {key: _mapped(one, change) for key, one in x.items()}
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
        return type(x)(_mapped(one, change) for one in x)
    return x
