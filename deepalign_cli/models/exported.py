"""Programs that `torch.export.save` wrote: FILE.pt2."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx import Node

from deepalign_cli.errors import CheckpointError, UsageError, one_line
from deepalign_cli.models.example import Example

_AGAIN = (
    "export it again: torch.export.save(torch.export.export(model.eval(), (example,), dynamic_shapes="
    "({0: torch.export.Dim('batch')},), strict=False), 'model.pt2'), where example holds 2 inputs or more."
)


def load_program(path: Path) -> tuple[nn.Module, Example | None]:
    """The module of an exported program, and the inputs that it was exported with, where the file has them.

    Loading a program trusts who made it: PyTorch unpickles parts of it. It runs what was traced: inputs
    of the traced shape only (but for dimensions that were exported as dynamic), in evaluation mode.

    Raises:
        UsageError: there is no such file, or it was exported in training mode or for one size of batches.
        CheckpointError: it is not a program that this PyTorch reads.
    """
    if not path.is_file():
        raise UsageError(f"there is no exported program '{path}'.", _AGAIN)
    try:
        program = torch.export.load(path)
    except Exception as error:  # a broken archive raises nearly anything
        raise CheckpointError(f"'{path}' is not an exported program: {one_line(error)}.", _AGAIN) from None
    if any(map(_trains, program.graph.nodes)):
        raise UsageError(f"'{path}' was exported in training mode.", _AGAIN)
    if (fixed := _fixed_batch(program)) is not None:
        raise UsageError(f"'{path}' was exported for batches of {fixed} and no others.", _AGAIN)
    inputs = program.example_inputs
    module = program.module()
    _tie(module)
    return module, None if inputs is None else Example(tuple(inputs[0]), dict(inputs[1]))


def _tie(module: nn.Module) -> None:
    """Make parameters that lie in one place one, as they were before: loading makes them several."""
    places: dict[object, nn.Parameter] = {}
    for name, parameter in list(module.named_parameters(remove_duplicate=False)):
        place = (parameter.data_ptr(), parameter.shape, parameter.stride())
        first = places.setdefault(place if parameter.numel() else name, parameter)
        if first is not parameter:
            path, _, key = name.rpartition(".")
            setattr(module.get_submodule(path), key, first)


def _fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    """The only number of examples that the program takes, where it takes but one."""
    inputs = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    first = next((inputs[name] for name in program.graph_signature.user_inputs if name in inputs), None)
    size = first.shape[0] if isinstance(first, Tensor) and first.ndim else None
    return size if isinstance(size, int) else None


def _trains(node: Node) -> bool:
    """Whether an operation does what it does in training: statistics of the batch, dropout."""
    arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
    place = next((i for i, a in enumerate(arguments) if a.name in ("training", "train")), None)
    if place is None:
        return False
    value = node.args[place] if place < len(node.args) else node.kwargs.get(arguments[place].name)
    return value is True
