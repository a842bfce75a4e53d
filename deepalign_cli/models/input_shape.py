"""The shape of one example: as the user writes it, or found by trying."""

from __future__ import annotations

import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.models.run import Run
from deepalign_cli.models.runnable import run_dtype
from deepalign_cli.symmetry.symmetry import Weights


def input_shape_of(run: Run, weights: Weights, text: str | None = None) -> tuple[int, ...]:
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
        problem = _try(run, weights, shape)
        if problem is not None:
            reason = " ".join(str(problem).split())
            raise UsageError(
                f"an input of shape {text} does not go through the model: {reason}.",
                "give one example's shape, without the batch axis, or leave --input-shape out.",
            )
        return shape
    for shape in _usual_shapes(weights):
        if _try(run, weights, shape) is None:
            return shape
    raise UsageError(
        "no usual input shape goes through the model.",
        "say it: --input-shape 3x32x32, without the batch axis.",
    )


def _try(run: Run, weights: Weights, shape: tuple[int, ...]) -> Exception | None:
    """What the model raises on an input of this shape."""
    try:
        with torch.no_grad():
            run(weights, torch.zeros(2, *shape, dtype=run_dtype(weights)))
    except UsageError:  # it runs, and gives what is no output
        raise
    except Exception as error:  # the user's own code may raise anything
        return error
    return None


def _usual_shapes(weights: Weights) -> list[tuple[int, ...]]:
    first = next((w for w in weights.values() if w.ndim >= 2 and w.is_floating_point()), None)
    if first is None:
        return []
    width = first.shape[1]
    return [
        (width,), (8, width), *((width, s, s) for s in (28, 32, 64, 96, 224, 16, 14, 8)), (width, 64),
    ]  # fmt: skip
