"""A module as a graph of ATen operations: `torch.export`, and the names of what goes in."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from deepalign_cli.errors import SpecError, one_line
from deepalign_cli.models.example import Example, Outputs

# Kept whole: their rules say more than what they are made of, and the graph is smaller.
_WHOLE = ("scaled_dot_product_attention.default", "linear.default", "layer_norm.default")
_PREFIX = "module."  # of names in `Outputs`


class Role(Enum):
    """What a placeholder of the graph stands for."""

    INPUT = auto()
    STATE = auto()  # a parameter or a persistent buffer
    CONSTANT = auto()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a placeholder's value comes from; `name` is its name in the module."""

    role: Role
    name: str = ""
    tensor: Tensor | None = None


class Program:
    """An exported program in few operations, and its module's tensors by name."""

    def __init__(self, exported: ExportedProgram, prefix: str = "") -> None:
        self.exported, self.prefix = exported, prefix
        self.nodes = list(exported.graph.nodes)
        self._specs = {
            spec.arg.name: spec for spec in exported.graph_signature.input_specs if hasattr(spec.arg, "name")
        }

    def state(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers, tied ones under each of their names."""
        return {name.removeprefix(self.prefix): w for name, w in self.exported.state_dict.items()}

    def source(self, node: Node) -> Source:
        """What a placeholder stands for."""
        spec = self._specs[node.name]
        name = spec.target or ""
        if spec.kind is InputKind.PARAMETER or (spec.kind is InputKind.BUFFER and spec.persistent):
            return Source(Role.STATE, name.removeprefix(self.prefix), self.exported.state_dict[name])
        if spec.kind in (InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            constant = self.exported.constants.get(name)
            return Source(Role.CONSTANT, name, constant if isinstance(constant, Tensor) else None)
        return Source(Role.INPUT)


def export(module: nn.Module, example: Example, outputs: Sequence[str] = ()) -> Program:
    """The program of a module in evaluation mode, for inputs of the example's shapes.

    `outputs` names those that count, where the module returns several by name.

    Raises:
        SpecError: it cannot be exported; the message says where it stops.
    """
    try:
        with _quiet(), torch.enable_grad(), _standing_in(module):
            whole = Outputs(module, outputs).eval()
            exported = torch.export.export(whole, example.args, dict(example.kwargs), strict=False)
            return decomposed(exported, _PREFIX)
    except Exception as error:  # export runs the user's code, which raises anything
        raise _refusal(error, module) from error


@contextmanager
def _standing_in(module: nn.Module) -> Iterator[None]:
    """Other parameters in the place of the module's: with gradients, and in memory that nobody touches.

    Of frozen layers some are fused to one operation, and those on "meta" do not go with inputs on a CPU.
    Memory that is asked for and not written to takes none.
    """
    kept = [(owner, dict(owner._parameters)) for owner in module.modules()]
    others: dict[int, nn.Parameter] = {}
    try:
        for owner, parameters in kept:
            for key, w in parameters.items():
                if w is not None and w.is_floating_point():
                    if id(w) not in others:
                        others[id(w)] = nn.Parameter(torch.empty(w.shape, dtype=w.dtype))
                    owner._parameters[key] = others[id(w)]
        yield
    finally:
        for owner, parameters in kept:
            owner._parameters.update(parameters)


def decomposed(exported: ExportedProgram, prefix: str = "") -> Program:
    """A program in few operations. What nothing reads is taken out: an unused state would tie layers."""
    table: dict[object, object] = dict(torch.export.default_decompositions())
    for name in _WHOLE:
        op, overload = name.split(".")
        table.pop(getattr(getattr(torch.ops.aten, op), overload), None)
    with _quiet():
        exported = exported.run_decompositions(table)
    exported.graph.eliminate_dead_code()
    return Program(exported, prefix)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, logs and printed graphs, which speak of its own affairs."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.fx", "torch._dynamo")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def _refusal(error: Exception, module: nn.Module) -> SpecError:
    """What the exporter says, in one sentence with the place in the user's code."""
    text = str(error)
    place = _place(error)
    name = type(module).__name__
    if "data-dependent" in text or "DataDependent" in type(error).__name__:
        return SpecError(
            f"{name} cannot be traced: what it does depends on its inputs' values{place}.",
            "give a spec (--spec), or a network that takes one path.",
        )
    said = one_line(text.split("\n\n")[0])[:300]
    return SpecError(
        f"{name} cannot be traced: {type(error).__name__}: {said}{place}.",
        "check that the example inputs are what its forward takes; the factory may return (module, inputs).",
    )


def _place(error: BaseException) -> str:
    """The innermost line outside of torch and this package at which it stopped."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not any(part in code.co_filename for part in ("/torch/", "deepalign_cli", "<")):
            where = code.co_filename.rsplit("/", 1)[-1]
            place = f" (in {code.co_qualname}, {where}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place
