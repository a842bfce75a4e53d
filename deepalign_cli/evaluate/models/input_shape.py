"""The shape of one example: as the user writes it, or found by trying."""

from __future__ import annotations

import torch
from torch import nn

from deepalign_cli.errors import UsageError


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
