"""Getting an architecture as code: `file.py:factory`, which runs the user's own Python."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from deepalign_cli.errors import DeepalignError, MismatchError, UsageError
from deepalign_cli.symmetry.symmetry import Weights

_HINT = "give --model path/to/file.py:factory, where factory() returns the network as an nn.Module."


def load_model(reference: str) -> nn.Module:
    """Run `file.py:factory` and return the network that it makes, in evaluation mode and float64.

    Raises:
        UsageError: there is no such file or factory, or it does not return an `nn.Module`.
        DeepalignError: the user's code raised.
    """
    model = _call(_factory(reference), reference)
    if not isinstance(model, nn.Module):
        raise UsageError(f"'{reference}' returned {type(model).__name__}, not an nn.Module.", _HINT)
    return model.double().eval()


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        MismatchError: names or shapes differ; they are listed.
    """
    own = {name: tuple(w.shape) for name, w in model.state_dict().items()}
    given = {name: tuple(w.shape) for name, w in weights.items()}
    differing = [n for n in (*own, *(m for m in given if m not in own)) if own.get(n) != given.get(n)]
    if differing:
        shown = ", ".join(
            f"'{n}' ({own.get(n, 'absent')} in the model, {given.get(n, 'absent')} in the file)"
            for n in differing[:4]
        )
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise MismatchError(
            f"the model does not fit the checkpoint: {shown}{more}.",
            "the factory must build this very architecture.",
        )
    model.load_state_dict(dict(weights))


def input_shape_of(model: nn.Module, text: str | None = None) -> tuple[int, ...]:
    """The shape of one example without the batch axis: `text` such as `3x32x32`, or found by trying.

    Raises:
        UsageError: the text is not a shape, or no usual shape goes through the model.
    """
    if text is not None:
        try:
            shape = tuple(int(part) for part in text.lower().split("x"))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            raise UsageError(
                f"'{text}' is not an input shape.", "write it as 784 or 3x32x32, without the batch axis."
            )
        problem = _try(model, shape)
        if problem is not None:
            reason = " ".join(str(problem).split())
            raise UsageError(
                f"an input of shape {text} does not go through the model: {reason}.",
                "give one example's shape, without the batch axis, or leave --input-shape out.",
            )
        return shape
    for shape in _usual_shapes(model):
        if _try(model, shape) is None:
            return shape
    raise UsageError(
        "no usual input shape goes through the model.",
        "say it: --input-shape 3x32x32, without the batch axis.",
    )


def _try(model: nn.Module, shape: tuple[int, ...]) -> Exception | None:
    """What the model raises on an input of this shape."""
    try:
        with torch.no_grad():
            model(torch.zeros(2, *shape, dtype=torch.float64))
    except Exception as error:  # the user's own code may raise anything
        return error
    return None


def _usual_shapes(model: nn.Module) -> list[tuple[int, ...]]:
    first = next((w for w in model.state_dict().values() if w.ndim >= 2 and w.is_floating_point()), None)
    if first is None:
        return []
    width = first.shape[1]
    return [
        (width,), (8, width), *((width, s, s) for s in (28, 32, 64, 96, 224, 16, 14, 8)), (width, 64),
    ]  # fmt: skip


def _factory(reference: str) -> Callable[[], object]:
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not file or not name or not path.is_file():
        raise UsageError(f"'{reference}' does not name a Python file and a factory in it.", _HINT)
    spec = importlib.util.spec_from_file_location("deepalign_user_model", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"'{path}' is not a Python file.", _HINT)
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader
    _call(lambda: loader.exec_module(module), reference)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UsageError(f"'{path}' has no callable '{name}'.", _HINT)
    return factory  # type: ignore[no-any-return]


def _call(function: Callable[[], object], reference: str) -> object:
    try:
        return function()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise DeepalignError(
            f"'{reference}' raised {type(error).__name__}: {' '.join(str(error).split())}.",
            "run the factory on its own to see where.",
        ) from error
