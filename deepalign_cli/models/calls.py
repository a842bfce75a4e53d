"""Which layers a network runs: calls of PyTorch's functions, known by the identity of their weights.

A layer is not found by its module's class or name but by the very tensor that it multiplies with, so this
works for any `Run`: plain functions, `nn.Module`s under `torch.func.functional_call`, programs of
`torch.export`. Of recurrent layers only what enters them is seen. What cannot be read this way (transposed
convolutions, weights that were reshaped first) is passed over.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from deepalign_cli.models.on_device import placed_for
from deepalign_cli.models.recurrent_calls import RECURRENT, run_by_layers
from deepalign_cli.models.run import Run
from deepalign_cli.models.runnable import run_dtype
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import in_dtype


class LayerKind(StrEnum):
    """How a layer multiplies: `x W^T` on the last axis, a convolution, or `x W` on the last axis."""

    LINEAR = "linear"
    CONV = "conv"
    MATMUL = "matmul"


@dataclass(frozen=True)
class Call:
    """One use of a weight. `bias` is its bias's name; `has_bias` tells of one that has no name, too.

    `output` runs the layer.
    """

    layer: LayerKind
    name: str
    weight: Tensor
    input: Tensor
    output: Callable[[], Tensor]
    bias: str | None = None
    has_bias: bool = False

    @property
    def read(self) -> int:
        """The axis of the weight that meets the input's features."""
        return 0 if self.layer is LayerKind.MATMUL else 1

    @property
    def written(self) -> int:
        """The axis of the weight that becomes the output's features."""
        return 1 - self.read

    def features(self, x: Shaped[Tensor, " ..."]) -> int:
        """The axis of the features (channels) in the layer's input or output."""
        return x.ndim - self.weight.ndim + 1 if self.layer is LayerKind.CONV else x.ndim - 1

    @property
    def fits(self) -> bool:
        """Whether every place on the read axis is a feature of the input; not in grouped convolutions."""
        return self.input.shape[self.features(self.input)] == self.weight.shape[self.read]


@dataclass(frozen=True)
class NormCall:
    """One use of BatchNorm. `mean` and `var` are its statistics' names."""

    mean: str
    var: str
    input: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def with_statistics(self, mean: Shaped[Tensor, " n"], var: Shaped[Tensor, " n"]) -> Tensor:
        """The output with other statistics than the stored ones."""
        return functional.batch_norm(self.input, mean, var, self.weight, self.bias, False, 0.0, self.eps)

    def in_training(self) -> Tensor:
        """The output with the input's own statistics, through which gradients flow."""
        return functional.batch_norm(self.input, None, None, self.weight, self.bias, True, 0.0, self.eps)


class Calls(TorchFunctionMode):
    """While a network runs, `reads`, `layer`, `batch_norm` and `normalised` are told of its layers.

    Subclasses override what they want to know or change; `layer` and `batch_norm` return the output. The
    weights are held in one type, float32 or wider, in which networks of narrower types are run.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._dtype = run_dtype(weights)
        self._hold(in_dtype(weights, self._dtype))

    def run(self, run: Run, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        """Run a network on a batch, which is brought to the weights' type if it is floating point."""
        with torch.no_grad():
            return self.differentiably(run, x)

    def differentiably(self, run: Run, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        """The same where gradients may flow. From then on the weights are held where the network runs."""
        placed = placed_for(run, self.weights)
        if placed is not self.weights:
            self._hold(placed)
        with self:
            return run(self.weights, x.to(self._dtype) if x.is_floating_point() else x)

    def _hold(self, weights: Weights) -> None:
        self.weights = dict(weights)
        self._names: dict[int, str] = {}
        for name, w in self.weights.items():
            self._names.setdefault(id(w), name)

    def reads(self, call: Call) -> None:
        """What enters a layer; comes before `layer`."""

    def layer(self, call: Call) -> Tensor:
        """What a layer gives."""
        return call.output()

    def batch_norm(self, call: NormCall) -> Tensor | None:
        """What a BatchNorm gives; None for what it gives by itself."""
        return None

    def normalised(self, x: Tensor) -> None:
        """A tensor that enters a norm of any kind."""

    def looked_up(self, name: str) -> None:
        """A weight whose rows are looked up: an embedding."""

    def used(self, name: str) -> None:
        """A weight that something else is made of: it is transposed, added, shared with another layer."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _LAYERS:
            layer, parameters = _LAYERS[func]
            call = self._call(layer, func, args, kwargs, parameters)
            return self._other(func, args, kwargs) if call is None else self._told(call)
        if func in _NORMS:
            return self._norm(func, args, kwargs)
        if func is functional.multi_head_attention_forward:
            return self._attention(args, kwargs)
        if func in RECURRENT and not kwargs:
            return run_by_layers(func, args, self._projection)
        if func in _LOOK_UPS:
            for name in self._named(args, kwargs):
                self.looked_up(name)
            return func(*args, **kwargs)
        return self._other(func, args, kwargs)

    def _other(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and id(out) not in self._names:  # else an attribute, or a view of itself
            for name in self._named(args, kwargs):
                self.used(name)
        return out

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
        """The weights among the values, and in lists of them."""
        values = [
            v for arg in (*args, *kwargs.values()) for v in (arg if type(arg) in (list, tuple) else (arg,))
        ]
        return [self._names[id(v)] for v in values if id(v) in self._names]

    def _told(self, call: Call) -> Tensor:
        self.reads(call)
        return self.layer(call)

    def _call(
        self, layer: LayerKind, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any],
        parameters: tuple[str, ...],
    ) -> Call | None:  # fmt: skip
        values = dict(zip(parameters, args, strict=False)) | dict(kwargs)
        weight = values.get("weight")
        name = self._names.get(id(weight))
        if name is None or weight is None or values.get("transposed") or id(values["input"]) in self._names:
            return None
        if layer is LayerKind.MATMUL and (weight.ndim != 2 or {"beta", "alpha"} & kwargs.keys()):
            return None
        bias = values.get("bias")
        return Call(
            layer, name, weight, values["input"], lambda: func(*args, **kwargs), self._names.get(id(bias)),
            bias is not None,
        )  # fmt: skip

    def _norm(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        values = dict(zip(_NORMS[func], args, strict=False)) | dict(kwargs)
        self.normalised(values["input"])
        mean, var = (self._names.get(id(values.get(role))) for role in ("running_mean", "running_var"))
        if mean is None or var is None or func is functional.instance_norm:
            return func(*args, **kwargs)
        eps = float(values.get("eps", 1e-5))
        call = NormCall(mean, var, values["input"], values.get("weight"), values.get("bias"), eps)
        changed = self.batch_norm(call)
        if changed is None:
            return func(*args, **kwargs)
        return (changed, *func(*args, **kwargs)[1:]) if func is _NO_TRAINING else changed

    def _attention(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """`nn.MultiheadAttention`, with its output projection as a linear layer of its own."""
        bound = _ATTENTION.bind(*args, **kwargs)
        values = bound.arguments
        query, key, value = (values[role] for role in ("query", "key", "value"))
        if query is key and key is value:
            self._projection(values.get("in_proj_weight"), query)
        for role, x in (("q_proj_weight", query), ("k_proj_weight", key), ("v_proj_weight", value)):
            self._projection(values.get(role), x)
        weight, bias = values["out_proj_weight"], values["out_proj_bias"]
        if id(weight) not in self._names:
            return functional.multi_head_attention_forward(*args, **kwargs)
        # Multiplying with the identity is exact: what comes out is what the projection reads.
        values["out_proj_weight"] = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        values["out_proj_bias"] = None
        heads, attention = functional.multi_head_attention_forward(*bound.args, **bound.kwargs)
        parameters = _LAYERS[functional.linear][1]
        call = self._call(LayerKind.LINEAR, functional.linear, (heads, weight, bias), {}, parameters)
        assert call is not None
        return self._told(call), attention

    def _projection(self, weight: Tensor | None, x: Tensor) -> None:
        """An input projection inside attention or a recurrent layer, of which only the input can be seen."""
        if weight is not None and (name := self._names.get(id(weight))) is not None:
            self.reads(Call(LayerKind.LINEAR, name, weight, x, lambda: functional.linear(x, weight)))


_ATEN = torch.ops.aten
_PLAIN = ("input", "weight", "bias")
_CONVOLUTION = (*_PLAIN, "stride", "padding", "dilation", "transposed")
_PRODUCT = ("input", "weight")
_ADDED = ("bias", "input", "weight")

# For every function: how it multiplies, and its first values by position.
_LAYERS: Mapping[Any, tuple[LayerKind, tuple[str, ...]]] = {
    **dict.fromkeys((functional.linear, _ATEN.linear.default), (LayerKind.LINEAR, _PLAIN)),
    **dict.fromkeys(
        (
            torch.conv1d, torch.conv2d, torch.conv3d, functional.conv1d, functional.conv2d, functional.conv3d,
            *(getattr(_ATEN, f"conv{d}d").default for d in (1, 2, 3)),
            *(getattr(_ATEN, f"conv{d}d").padding for d in (1, 2, 3)),
        ),
        (LayerKind.CONV, _PLAIN),
    ),
    **dict.fromkeys((torch.convolution, _ATEN.convolution.default), (LayerKind.CONV, _CONVOLUTION)),
    **dict.fromkeys(
        (
            torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__,
            _ATEN.matmul.default, _ATEN.mm.default,
        ),
        (LayerKind.MATMUL, _PRODUCT),
    ),
    **dict.fromkeys((torch.addmm, Tensor.addmm, _ATEN.addmm.default), (LayerKind.MATMUL, _ADDED)),
}  # fmt: skip

_NO_TRAINING = _ATEN._native_batch_norm_legit_no_training.default  # has three outputs
_STORED = ("input", "weight", "bias", "running_mean", "running_var")

_NORMS: Mapping[Any, tuple[str, ...]] = {
    functional.batch_norm: (
        "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
    ),
    torch.batch_norm: (*_STORED, "training", "momentum", "eps"),
    _ATEN.batch_norm.default: (*_STORED, "training", "momentum", "eps"),
    _NO_TRAINING: (*_STORED, "momentum", "eps"),
    **dict.fromkeys(
        (
            functional.layer_norm, functional.group_norm, functional.instance_norm, functional.rms_norm,
            torch.layer_norm, torch.group_norm, torch.rms_norm,
            _ATEN.layer_norm.default, _ATEN.group_norm.default, _ATEN.rms_norm.default,
            _ATEN.native_layer_norm.default, _ATEN.native_group_norm.default,
        ),
        ("input",),
    ),
}  # fmt: skip

_LOOK_UPS = frozenset(
    {
        functional.embedding, functional.embedding_bag, torch.embedding, _ATEN.embedding.default,
        _ATEN.embedding_bag.default, _ATEN.embedding_bag.padding_idx,
        _ATEN._embedding_bag.default, _ATEN._embedding_bag_forward_only.default,  # trainable; frozen
    }
)  # fmt: skip

_ATTENTION = inspect.signature(functional.multi_head_attention_forward)
