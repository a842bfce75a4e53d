"""The table of rules: what each ATen operation demands of the axes that it meets."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from torch import Tensor
from torch.fx import Node

from deepalign_cli.tracing.labels import Labels, NoRule
from deepalign_cli.tracing.value import Labelled, Value

Rule = Callable[..., Any]
Function = TypeVar("Function", bound=Rule)

_RULES: dict[str, Rule] = {}


@dataclass(frozen=True, slots=True)
class Op:
    """An operation of the graph: what its rule may ask besides the axes of its arguments."""

    node: Node

    @property
    def name(self) -> str:
        """The name in `torch.ops.aten`."""
        return getattr(self.node.target, "_opname", str(self.node.target))

    @property
    def overload(self) -> str:
        """Which of the operations of this name it is."""
        return getattr(self.node.target, "_overloadname", "")

    @property
    def results(self) -> list[Tensor | None]:
        """The results as export describes them."""
        val = self.node.meta.get("val")
        return list(val) if isinstance(val, tuple | list) else [val]

    @property
    def is_many(self) -> bool:
        """Whether it returns several values."""
        return isinstance(self.node.meta.get("val"), tuple | list)

    @property
    def shape(self) -> list[int]:
        """The first result's."""
        first = self.results[0]
        assert first is not None
        return [int(n) for n in first.shape]

    def argument(self, place: int) -> Tensor:
        """What export knows of a tensor argument."""
        node: Any = self.node.args[place]
        tensor = node.meta["val"]
        assert isinstance(tensor, Tensor)
        return tensor

    def uses(self, place: int) -> bool:
        """Whether anything reads the result at `place`."""
        return any(len(user.args) > 1 and user.args[1] == place for user in self.node.users)

    def returns(self, axes: list[Any]) -> list[Labelled] | Value:
        """The same axes for every result."""
        return [Value(list(axes)) for _ in self.results] if self.is_many else Value(list(axes))


def rule(*names: str) -> Callable[[Function], Function]:
    """Register the rule of these operations: `rule(labels, op, *args, **kwargs)` gives their values."""

    def put(function: Function) -> Function:
        for name in names:
            assert name not in _RULES, name
            _RULES[name] = function
        return function

    return put


@cache
def load_rules() -> Mapping[str, Rule]:
    """The table, with the rules of every file beside this one."""
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return _RULES


def apply_rule(labels: Labels, op: Op, args: list[Any], kwargs: dict[str, Any]) -> Labelled | list[Labelled]:
    """What the operation's rule says. Raises NoRule where there is none or it does not know this use."""
    function = _RULES.get(op.name)
    if function is None:
        raise NoRule
    result: Labelled | list[Labelled] = function(labels, op, *args, **kwargs)
    _check(op, result)
    return result


def dimensions(dims: object, rank: int) -> list[int]:
    """Dimensions as places from 0; none or an empty list are all."""
    if isinstance(dims, int):
        dims = [dims]
    elif not dims:
        dims = range(rank)
    if not rank:
        return []
    return sorted(d % rank for d in dims)  # type: ignore[attr-defined]


def _check(op: Op, result: Labelled | list[Labelled]) -> None:
    """Check the result's sizes against those that export knows. Raises NoRule where they differ."""
    results = result if isinstance(result, list) else [result]
    for one, tensor in zip(results, op.results, strict=True):
        if not (isinstance(one, Value) and isinstance(tensor, Tensor) and tensor.numel()):
            continue
        if [e.size for e in one.lazy] != [int(n) for n in tensor.shape]:
            raise NoRule
