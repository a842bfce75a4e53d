"""The walk over a graph: every operation's rule is asked in turn, and what has none freezes what it meets."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from deepalign_cli.tracing.expressions import Expression, Fixed, free
from deepalign_cli.tracing.labels import Labels, NoRule
from deepalign_cli.tracing.program import Program, Role, Source
from deepalign_cli.tracing.rules.rulebook import Op, apply_rule, load_rules
from deepalign_cli.tracing.value import Labelled, Uniform, Value, labelled

# Operations that leave a constant of one number everywhere what it is.
_UNIFORM = (
    "view reshape _unsafe_view permute t transpose unsqueeze squeeze expand repeat select slice flip cat"
    " stack split_with_sizes split chunk unbind clone alias detach lift_fresh_copy _to_copy"
)
_KEEPS_UNIFORM = frozenset(_UNIFORM.split())
_ROOT = re.compile(r"^(?:L__self__|L\['self'\])\.?")


@dataclass
class Walked:
    """What a walk leaves: the axes of the module's floating tensors, and what nothing reads."""

    labels: Labels
    roots: dict[str, list[Expression]] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)  # operations without a rule, with their modules


class Walk:
    """One walk over one program."""

    def __init__(self, program: Program) -> None:
        load_rules()
        self.program = program
        self.result = Walked(Labels())
        self.labels = self.result.labels
        self._values: dict[Node, Any] = {}
        self._shared: dict[object, list[Expression]] = {}
        self._reached: set[int] = set()

    def run(self) -> Walked:
        """Walk from the first node to the last."""
        for node in self.program.nodes:
            self.labels.where = _where(node, self.program.prefix)
            if node.op == "placeholder":
                self._values[node] = self._placeholder(node)
            elif node.op == "output":
                self._freeze(node, "an output of the network")
            elif node.op == "call_function":
                self._values[node] = self._call(node)
        self._rest()
        return self.result

    def _placeholder(self, node: Node) -> Labelled:
        tensor = node.meta.get("val")
        if not isinstance(tensor, Tensor):
            return None
        source = self.program.source(node)
        if source.role is Role.INPUT:
            return labelled(tensor.shape)
        if source.role is Role.CONSTANT:
            return _constant(source, tensor)
        if not tensor.is_floating_point():
            return labelled(tensor.shape)
        axes = self._root(source.name, source.tensor if source.tensor is not None else tensor)
        if node.users:
            self._reached.add(id(axes))
        return Value([*axes])

    def _root(self, name: str, tensor: Tensor) -> list[Expression]:
        """The axes of a tensor of the module; tied names share them."""
        axes = self._shared.setdefault(_memory(tensor), [free(int(n)) for n in tensor.shape])
        self.result.roots[name] = axes
        return axes

    def _rest(self) -> None:
        """Freeze what nothing reads: with what it would move in training, nothing here says."""
        for name, tensor in self.program.state().items():
            if tensor.is_floating_point() and name not in self.result.roots:
                self._root(name, tensor)
        self.labels.where = ""
        for name, axes in self.result.roots.items():
            if id(axes) not in self._reached:
                self.result.unreached.append(name)
                for e in axes:
                    self.labels.freeze(e, "nothing that was traced reads it")

    def _call(self, node: Node) -> Any:
        values = [self._values.get(x) for x in node.all_input_nodes]
        if not isinstance(node.target, torch._ops.OpOverload) and _name(node) == "getitem":
            return values[0][node.args[1]] if isinstance(values[0], list) else None  # type: ignore[index]
        op = Op(node)
        if not any(isinstance(r, Tensor) for r in op.results):
            return None  # sizes and assertions
        if (uniform := _uniform(op, values)) is not None:
            return [uniform] * len(op.results) if op.is_many else uniform
        try:
            args: Any = torch.fx.map_arg(node.args, self._argument)
            kwargs: Any = torch.fx.map_arg(node.kwargs, self._argument)
            plain = [list(a) if isinstance(a, tuple) else a for a in args]
            return apply_rule(self.labels, op, plain, dict(kwargs))
        except (NoRule, TypeError, ValueError, IndexError, AttributeError, AssertionError, StopIteration):
            return self._unknown(op)

    def _argument(self, node: Node) -> Any:
        value = self._values.get(node)
        return value.value(node.meta["val"].shape) if isinstance(value, Uniform) else value

    def _unknown(self, op: Op) -> Any:
        """An operation without a rule: all that it reads stays in place, and so does what it makes."""
        self.result.unknown[self.labels.where] += 1
        self._freeze(op.node, f"no rule for {op.name}")
        results: list[Labelled] = [labelled(r.shape) if isinstance(r, Tensor) else None for r in op.results]
        return results if op.is_many else results[0]

    def _freeze(self, node: Node, reason: str) -> None:
        for x in node.all_input_nodes:
            value = self._values.get(x)
            for one in value if isinstance(value, list) else [value]:
                for e in one.axes(self.labels) if isinstance(one, Value) else []:
                    self.labels.freeze(e, reason)


def _memory(tensor: Tensor) -> object:
    """What tied tensors share. Not data_ptr(), which is 0 for every tensor on "meta"."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _constant(source: Source, tensor: Tensor) -> Labelled:
    """A constant: along an axis on which all is equal places are free, else labelled."""
    known = source.tensor
    if known is None or known.device.type == "meta" or not known.numel():
        return labelled(tensor.shape)
    first = known.flatten()[0]
    if bool((known == first).all()):
        return Uniform(float(first)) if not known.is_complex() else labelled(tensor.shape)
    is_even = [bool((known == known.narrow(d, 0, 1)).all()) for d in range(known.ndim)]
    return Value([free(n, {}) if even else Fixed(n) for n, even in zip(known.shape, is_even, strict=True)])


def _uniform(op: Op, values: list[Any]) -> Uniform | None:
    """The result where all that goes in is one number and the operation leaves it so."""
    if op.name not in _KEEPS_UNIFORM or not values or not all(isinstance(v, Uniform) for v in values):
        return None
    numbers = {v.number for v in values}
    if len(numbers) > 1:
        return None
    result = next(r for r in op.results if isinstance(r, Tensor))
    return Uniform(float(torch.tensor(numbers.pop()).to(result.dtype)))  # a cast may round it


def _name(node: Node) -> str:
    return str(getattr(node.target, "_opname", getattr(node.target, "__name__", node.target)))


def _where(node: Node, prefix: str) -> str:
    """The operation and the module it stands in."""
    if node.op != "call_function":
        return ""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = _ROOT.sub("", stack[-1][0]) if stack else ""
    path = path.removeprefix(prefix).removeprefix("module") if prefix else path
    return f"{_name(node)} in {path}" if path else _name(node)
