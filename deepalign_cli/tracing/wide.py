"""Running a module in float64 from end to end, whatever types its code asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_WIDE = {
    **dict.fromkeys([torch.float16, torch.bfloat16, torch.float32], torch.float64),
    **dict.fromkeys([torch.complex32, torch.complex64], torch.complex128),
}


class Wide(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation in float64: code that casts to float32 on the way would round."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        return tree_map(_widened, func(*tree_map(_widened, args), **tree_map(_widened, kwargs or {})))


def _widened(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.to(_WIDE[x.dtype]) if x.dtype in _WIDE else x
    return _WIDE.get(x, x) if isinstance(x, torch.dtype) else x
