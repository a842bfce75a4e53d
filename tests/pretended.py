"""A second device, pretended on the processor: what a GPU would refuse is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

AWAY = torch.device("cuda")
_GRADIENT, _DEVICE = Tensor.grad.__get__, Tensor.device.__get__  # type: ignore[attr-defined]


class Away(Tensor):
    """A tensor that says that it is on the other device."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


class PretendedDevice(TorchFunctionMode):
    """Tensors made on "cuda", or brought there, are `Away`; functions of them give such, and meet no others.

    A number may meet them, as on a GPU. `ran` counts the functions that were run there, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran: dict[str, int] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        is_away = any(isinstance(x, Away) for x in tensors)
        if func == _DEVICE:
            return AWAY if is_away else func(*args)
        if func in (Tensor.cpu, Tensor.to):
            return self._moved(func, args, kwargs, is_away)
        if func is Tensor.numpy and is_away:
            raise TypeError("can't convert cuda tensor to numpy")
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == AWAY.type:
            return tree_map(_away, func(*args, **{**kwargs, "device": "cpu"}))
        if not is_away:
            return func(*args, **kwargs)
        if func is torch._has_compatible_shallow_copy_type:  # a module asks where its parameters may stay
            return all(isinstance(x, Away) for x in tensors)
        strangers = [x for x in tensors if not isinstance(x, Away) and x.ndim]
        in_backward = torch._C._current_graph_task_id() != -1  # where the engine makes plain tensors
        if strangers and func not in (_GRADIENT, torch.autograd.grad) and not in_backward:
            name = getattr(func, "__name__", str(func))
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, cuda and cpu!")
        name = getattr(func, "__name__", "")
        self.ran[name] = self.ran.get(name, 0) + 1
        return tree_map(_away, func(*args, **kwargs))

    def _moved(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], away: bool
    ) -> Any:
        """What `cpu` and `to` give: a copy where that is elsewhere."""
        x, *rest = args
        values = [*rest, *kwargs.values()]
        other = next((v for v in values if isinstance(v, Tensor)), None)
        named = next((v for v in values if isinstance(v, str | torch.device)), None)
        to_away = isinstance(other, Away) if named is None else torch.device(named).type == AWAY.type
        if func is Tensor.cpu:
            to_away = False
        elif named is None and other is None:
            to_away = away
        usual = x.dtype if other is None else other.dtype
        dtype = next((v for v in values if isinstance(v, torch.dtype)), usual)
        if to_away == away and dtype == x.dtype:
            return x
        moved = (x.as_subclass(Tensor) if away else x).to(dtype, copy=to_away != away)
        return _away(moved) if to_away else moved


def _away(x: Any) -> Any:
    return x.as_subclass(Away) if isinstance(x, Tensor) and not isinstance(x, Away) else x


@contextmanager
def pretended() -> Iterator[PretendedDevice]:
    """PyTorch finds one device of the kind "cuda" here."""
    with (
        patch("torch.cuda.is_available", return_value=True), patch("torch.cuda.device_count", return_value=1),
        PretendedDevice() as device,
    ):  # fmt: skip
        yield device
