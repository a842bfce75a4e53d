"""A checkpoint's network as something to trace: a module, its tensors' names, and example inputs."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs import Design, examples_of
from deepalign_cli.models.dummy_inputs import dummy_inputs
from deepalign_cli.models.example import Example
from deepalign_cli.models.fitting import Shape
from deepalign_cli.models.input_shape import COUNT, example_inputs, parsed_shape
from deepalign_cli.models.module import ModuleRun
from deepalign_cli.models.run import Run
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class Subject:
    """A module to trace. `names` has its name of each of a checkpoint's tensors."""

    module: nn.Module
    names: Mapping[str, str]
    example: Example


def subject_of(run: Run, weights: Weights, shape: str | None = None, inputs: Tensor | None = None) -> Subject:
    """The subject of a network and a checkpoint.

    Its example are `inputs`, where they are given, else random ones of a `shape` that is given, else what
    comes with the module, else ones of a shape that is found by trying.

    Raises:
        UsageError: no inputs can be had, the network does not take the shape, or it has no module.
    """
    module, names = _module(run, weights)
    if isinstance(run, Design) and shape is not None:
        _check_taken(run, parsed_shape(shape))
    if inputs is not None:
        return Subject(module, names, Example((inputs,)))
    if shape is not None or not isinstance(run, ModuleRun):
        rng = torch.Generator().manual_seed(0)
        if isinstance(run, Design) and shape is None:
            return Subject(module, names, Example((examples_of(run, COUNT, rng),)))
        return Subject(module, names, Example((example_inputs(run, weights, rng, shape),)))
    return Subject(module, names, run.example or _example(run, weights))


def _check_taken(design: Design, given: Shape) -> None:
    """Refuse images of other channels than a design's: grouped convolutions run on them, and mix them up."""
    known = tuple(design.input_shape)
    if len(known) == 3 and (len(given) != 3 or given[0] != known[0]):
        shapes = ["x".join(map(str, shape)) for shape in (known, given)]
        problem = f"the network takes inputs of {shapes[0]}, not of {shapes[1]}."
        raise UsageError(problem, "leave --input-shape out.")


def bare_subject(
    module: nn.Module, example: Example | None, shape: str | None = None, inputs: Tensor | None = None
) -> Subject:
    """The subject of a module without a checkpoint, in its own names.

    Raises:
        UsageError: no inputs can be had.
    """
    weights = {name: w.detach() for name, w in module.state_dict().items() if isinstance(w, Tensor)}
    names = {name: name for name in weights}
    if shape is None:
        if example is None and inputs is None and hasattr(module, "main_input_name"):  # one of transformers
            example = dummy_inputs(module)
        if example is not None:
            return Subject(module, names, example)
    subject = subject_of(ModuleRun(copy.deepcopy(module), names), weights, shape, inputs)
    return Subject(module, names, subject.example)


def _module(run: Run, weights: Weights) -> tuple[nn.Module, Mapping[str, str]]:
    if isinstance(run, ModuleRun):
        return run.module, run.names
    module = RunModule(run, {name: tuple(w.shape) for name, w in weights.items() if w.is_floating_point()})
    return module, module.names


def _example(run: ModuleRun, weights: Weights) -> Example:
    """Inputs for a module that came with none."""
    if hasattr(run.module, "main_input_name"):  # one of transformers
        return dummy_inputs(run.module)
    return Example((example_inputs(run, weights, torch.Generator().manual_seed(0)),))


class RunModule(nn.Module):
    """A network that is a function of weights by name, as a module with parameters on "meta".

    They stand where their names say, so that a trace names groups for layers. `names` has these places.
    """

    def __init__(self, run: Run, shapes: Mapping[str, Shape]) -> None:
        super().__init__()
        self.run = run
        self.names = _attributes(shapes)
        for name, shape in shapes.items():
            *path, last = self.names[name].split(".")
            part: nn.Module = self
            for word in path:
                if word not in part._modules:
                    part.add_module(word, nn.Module())
                part = part.get_submodule(word)
            part.register_parameter(last, nn.Parameter(torch.empty(shape, device="meta")))

    def forward(self, x: Tensor) -> Any:
        """The outputs."""
        return self.run({name: attrgetter(own)(self) for name, own in self.names.items()}, x)


def _attributes(names: Collection[str]) -> dict[str, str]:
    """Names that parameters can have: a `_` is put behind words that modules use otherwise.

    >>> _attributes(["fc.weight", "half.weight", "fc"])
    {'fc.weight': 'fc.weight', 'half.weight': 'half_.weight', 'fc': 'fc_'}
    """
    taken = {"", "run", "names", *dir(nn.Module())}
    paths = {name[:i] for name in names for i, character in enumerate(name) if character == "."}
    words = {
        name: [f"{word}_" if word in taken or word.endswith("_") else word for word in name.split(".")]
        for name in names
    }
    return {name: ".".join(parts) + ("_" if name in paths else "") for name, parts in words.items()}
