"""How much work a network is: what it multiplies, makes and calls, counted as it runs.

Torch's own counter takes a second to load a compiler, and neither knows recurrent layers nor counts what
multiplies nothing. One time step of a recurrent layer is several small operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from deepalign_cli.models.runnable import run_dtype
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import in_dtype

_OF_AN_ENTRY, _OF_AN_OPERATION = 8, 200_000  # multiplications take as long, on one core
_OF_A_TIME_STEP = 10  # operations
_OF_AN_ATTENTION = 3  # whose products take so much longer, back above all


@dataclass(frozen=True)
class Work:
    """Numbers that a run multiplies, entries of what its operations make, and how many operations it has.

    The first two grow with the inputs, the third does not.
    """

    products: int
    entries: int
    operations: int

    @property
    def growing(self) -> int:
        """What grows with the inputs, in multiplications that take as long."""
        return self.products + _OF_AN_ENTRY * self.entries

    @property
    def fixed(self) -> int:
        """What does not grow with the inputs, in multiplications that take as long."""
        return _OF_AN_OPERATION * self.operations

    @property
    def total(self) -> int:
        """All of it, in multiplications that take as long."""
        return self.growing + self.fixed


def work(weights: Weights, run: Callable[[Weights], object]) -> Work:
    """How much work a run of weights is, forward, as in training: weights ask for gradients."""
    wide = in_dtype(weights, run_dtype(weights))
    asking = {n: w.detach().requires_grad_() if w.is_floating_point() else w for n, w in wide.items()}
    counter = _Counting()
    with torch.enable_grad(), counter:
        run(asking)
    return Work(counter.products, counter.entries, counter.operations)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products = self.entries = self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To keep its compiler away from this, torch would load it, for a second."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.is_view or func is _ATEN.detach.default:
            return out
        count = _COUNTS.get(func)
        first = out[0] if isinstance(out, tuple | list) and out else out
        self.operations += _OF_A_TIME_STEP * len(args[0]) if func in _RECURRENT else 1
        self.entries += first.numel() if isinstance(first, Tensor) else 0
        self.products += count(args, first) if count else 0
        return out


def _product(args: Sequence[Any], out: Tensor) -> int:
    return int(out.numel() * args[0].shape[-1])


def _added_product(args: Sequence[Any], out: Tensor) -> int:
    return int(out.numel() * args[1].shape[-1])


def _convolution(args: Sequence[Any], out: Tensor) -> int:
    x, weight, is_transposed = args[0], args[1], args[6]
    return int((x if is_transposed else out).numel() * math.prod(weight.shape[1:]))


def _attention(args: Sequence[Any], out: Tensor) -> int:
    query, key = args[:2]
    return int(_OF_AN_ATTENTION * 2 * query.numel() * key.shape[-2])


def _recurrent(args: Sequence[Any], out: Tensor) -> int:
    x, input_weight, own_weight = args[:3]
    return int(x.numel() // x.shape[-1] * (input_weight.numel() + own_weight.numel()))


_ATEN = torch.ops.aten
_RECURRENT = (_ATEN.mkldnn_rnn_layer.default,)  # whose first argument is [time, batch, features]
_COUNTS: Mapping[Any, Callable[[Sequence[Any], Tensor], int]] = {
    **dict.fromkeys((_ATEN.mm.default, _ATEN.bmm.default, _ATEN.mv.default), _product),
    **dict.fromkeys((_ATEN.addmm.default, _ATEN.baddbmm.default, _ATEN.addmv.default), _added_product),
    _ATEN.convolution.default: _convolution,
    _ATEN._scaled_dot_product_flash_attention_for_cpu.default: _attention,
    _ATEN.mkldnn_rnn_layer.default: _recurrent,
}
