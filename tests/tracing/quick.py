"""A front end that is cheap, for random programs: operations are recorded as they run.

`torch.export` takes 10 ms an operation, which is too much for thousands of programs. What it leaves is the
same but for names of modules. Nothing here is used outside of tests.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Graph, Node
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from deepalign_cli.errors import SpecError
from deepalign_cli.models.example import Example
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.check import Trial
from deepalign_cli.tracing.program import _WHOLE, Program, Role, Source

_aten = torch.ops.aten
_KEPT = {
    F.linear: _aten.linear.default,
    F.scaled_dot_product_attention: _aten.scaled_dot_product_attention.default,
    F.layer_norm: _aten.layer_norm.default,
}


def _decompositions() -> dict[Any, Callable[..., Any]]:
    table = dict(torch.export.default_decompositions())
    for name in _WHOLE:
        op, overload = name.split(".")
        table.pop(getattr(getattr(_aten, op), overload), None)
    return table


_TABLE = _decompositions()


class Quick(Program):
    """The program of a module, by running it once."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.prefix = ""
        self.graph = Graph()
        self._tensors = dict(module.state_dict(keep_vars=True))
        self._sources: dict[Node, Source] = {}
        self._nodes: dict[int, Node] = {}
        self._alive: list[Tensor] = []
        state = {name: w.detach() for name, w in self._tensors.items()}
        state |= {name: b for name, b in module.named_buffers() if name not in state}
        for name, w in state.items():
            role = Role.STATE if name in self._tensors else Role.CONSTANT
            self.placeholder(w, Source(role, name, self._tensors.get(name, w)))
        x = x.clone()
        self.placeholder(x, Source(Role.INPUT))
        with torch.no_grad(), Whole(self), Recorder(self):
            out = functional_call(module, state, (x,), tie_weights=False)
        self.graph.output(tuple(map(self.node, out if isinstance(out, tuple) else [out])))
        self.graph.eliminate_dead_code()
        self.nodes = list(self.graph.nodes)

    def placeholder(self, tensor: Tensor, source: Source) -> Node:
        with self.graph.inserting_before(next(iter(self.graph.nodes), self.graph._root)):
            node = self.graph.placeholder(f"p{len(self._nodes)}")
        self._sources[node] = source
        return self.put(tensor, node)

    def put(self, tensor: Tensor, node: Node) -> Node:
        node.meta.setdefault("val", tensor)
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)
        return node

    def node(self, tensor: Tensor) -> Node:
        """What computes a tensor; one that nothing did is a constant."""
        if id(tensor) not in self._nodes:
            return self.placeholder(tensor, Source(Role.CONSTANT, "c", tensor.clone()))
        return self._nodes[id(tensor)]

    def record(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if not any(isinstance(t, Tensor) for t in tree_leaves(out)):
            return
        args, kwargs = tree_map(lambda t: self.node(t) if isinstance(t, Tensor) else t, (args, kwargs))
        node = self.graph.call_function(func, tuple(args), kwargs)
        node.meta["val"] = out
        if isinstance(out, Tensor):
            self.put(out, node)
            return
        for place, t in enumerate(out):
            if isinstance(t, Tensor):
                self.put(t, self.graph.call_function(operator.getitem, (node, place)))

    def state(self) -> dict[str, Tensor]:
        return self._tensors

    def source(self, node: Node) -> Source:
        return self._sources[node]


class Recorder(TorchDispatchMode):
    """Every operation in few ones."""

    def __init__(self, program: Quick) -> None:
        super().__init__()
        self.program = program

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _aten.native_batch_norm.default and not args[5]:  # as export has it
            with self:
                return _aten._native_batch_norm_legit_no_training.default(*args[:5], *args[6:])
        if func in _TABLE:
            with self:
                out = _TABLE[func](*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        schema = func._schema
        if schema.is_mutable:
            packet = getattr(_aten, schema.name[6:].rstrip("_"))
            func = getattr(packet, func._overloadname if func._overloadname in packet.overloads() else "int")
            if out is args[0]:  # what was there is written over
                before = self.program.node(out)
                node = self.program.graph.call_function(
                    func,
                    *tree_map(
                        lambda t: self.program.node(t) if isinstance(t, Tensor) else t, (tuple(args), kwargs)
                    ),
                )
                assert before is not node
                node.meta["val"] = out
                self.program._nodes[id(out)] = node
                return out
        self.program.record(func, args, kwargs, out)
        return out


class Whole(TorchFunctionMode):
    """Operations whose rules know more than those of their parts."""

    def __init__(self, program: Quick) -> None:
        super().__init__()
        self.program = program

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _KEPT:
            return func(*args, **kwargs)
        with torch.utils._python_dispatch._disable_current_modes():
            out = func(*args, **kwargs)
        if func is F.layer_norm:
            settings = dict(zip(("input", "shape", "weight", "bias", "eps"), args, strict=False)) | kwargs
            args, kwargs = (*args[:2], *(settings.get(name) for name in ("weight", "bias"))), {}
        elif "attn_mask" in kwargs:
            args, kwargs = (*args, kwargs["attn_mask"]), {k: v for k, v in kwargs.items() if k != "attn_mask"}
        self.program.record(_KEPT[func], args, kwargs, out)
        return out


class PlainTrial(Trial):
    """A trial of a module that is in float64 already and casts nothing."""

    def run(self, example: Example) -> list[Tensor]:
        state = {f"module.{name}": w for name, w in (self._rest | self.state).items()}
        with torch.no_grad():
            return list(functional_call(self.module, state, example.args, {}, tie_weights=False))


def faults(spec: Spec, module: nn.Module, x: Tensor, seed: int = 0) -> tuple[dict[str, str], int]:
    """Groups that change what a module computes, with what was tried; and how many elements were.

    A group counts where it does so for two draws of the weights: next to a step (`floor`, `sign`) rounding
    may change an output once.
    """
    wrong, elements = _tried(spec, module, x, seed)
    if wrong:
        again = _tried(spec, module, x, seed + 1)[0]
        wrong = {group: what for group, what in wrong.items() if group in again}
    return wrong, elements


def _tried(spec: Spec, module: nn.Module, x: Tensor, seed: int) -> tuple[dict[str, str], int]:
    trial, elements = PlainTrial(module, Example((x,)), seed=seed), 0
    wrong: dict[str, str] = {}
    trial.is_large = True  # one element is enough: there are many programs
    together = Symmetry(spec.with_kinds(scale=True, sign=True), trial.shapes)
    if not trial.of(together)[1]:
        return {}, len(spec.sizes)
    if trial._rounding() >= 1e-8:
        raise SpecError("a step (floor, sign, >) is so near that rounding takes it.")
    for kind, scale, sign in (("moved", False, False), ("scaled", True, False), ("signed", False, True)):
        kinds = spec.with_kinds(scale=scale, sign=sign)
        if kind != "moved" and not kinds.kinds:
            continue
        elements += 2 * len(spec.sizes if kind == "moved" else kinds.kinds)
        _, bad = trial.of(Symmetry(kinds, trial.shapes))
        wrong |= {group: f"{kind}: {change:.1e}" for group, change in bad.items()}
    return wrong, elements
