"""Random inputs for a network, of a shape that the user writes or that is found by trying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.errors import UsageError, one_line
from deepalign_cli.models.calls import Calls
from deepalign_cli.models.run import Run
from deepalign_cli.models.runnable import run_dtype
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import in_dtype

COUNT = 8
_MOST_COLOURS = 4
_MOST_NUMBERS = 2**22  # of an image that is tried
_LENGTHS = (8, 16, 32, 64, 128, 256)  # of sequences of tokens


def example_inputs(
    run: Run, weights: Weights, rng: torch.Generator, text: str | None = None
) -> Shaped[Tensor, "batch ..."]:
    """Examples of the shape `text` such as `3x32x32`, without the batch axis, or of one found by trying.

    They are normal; where the network does not run on these, random tokens within its embeddings' rows.

    Raises:
        UsageError: the text is not a shape, or no usual shape goes through the model.
    """
    problems = list[tuple[Tensor, Exception]]()
    weights = in_dtype(weights, run_dtype(weights))
    for x in _candidates(run, weights, rng, None if text is None else parsed_shape(text)):
        failure = _try(run, weights, x)
        if failure is None:
            return x
        problems = problems or [(x, failure)]
    raise _no_shape(text, problems[:1])


def _no_shape(text: str | None, first: Sequence[tuple[Tensor, Exception]]) -> UsageError:
    """What is raised where no inputs go through, of which the `first` raised what it did."""
    if text is not None:
        said = "".join(one_line(failure) for _, failure in first)
        return UsageError(
            f"the model does not run on inputs of shape {text}: {said}.",
            "give the shape of one example, without the batch axis, or add examples: --data FILE.npz.",
        )
    said = "".join(f" (on {'x'.join(map(str, x.shape[1:]))}: {one_line(failure)})" for x, failure in first)
    return UsageError(
        f"the model runs on no usual input shape{said}.",
        "add the shape of an example, such as --input-shape 3x32x32, or examples, --data FILE.npz; a "
        "factory may also return (module, inputs).",
    )


def parsed_shape(text: str) -> tuple[int, ...]:
    """The shape of one example as it is written. Raises UsageError where it is not one."""
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"'{text}' is not an input shape.", "write 784 or 3x32x32, without the batch axis.")
    return shape


def _candidates(
    run: Run, weights: Weights, rng: torch.Generator, shape: tuple[int, ...] | None
) -> Iterator[Shaped[Tensor, "batch ..."]]:
    for usual in _usual_shapes(weights) if shape is None else [shape]:
        yield torch.randn(COUNT, *usual, generator=rng, dtype=run_dtype(weights))
    for usual in [(length,) for length in _LENGTHS] if shape is None else [shape]:
        watching, zeros = _LookUps(weights), torch.zeros(COUNT, *usual, dtype=torch.int64)
        _try(lambda _, x, look=watching: look.run(run, x), weights, zeros)
        if watching.rows:
            yield torch.randint(0, min(watching.rows), zeros.shape, generator=rng)


class _LookUps(Calls):
    """How many rows the tables have that a network looks tokens up in."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.rows: list[int] = []

    def looked_up(self, name: str) -> None:
        self.rows.append(len(self.weights[name]))


def _try(run: Run, weights: Weights, x: Tensor) -> Exception | None:
    """What the model raises on these inputs."""
    try:
        with torch.no_grad():
            run(weights, x)
    except UsageError:  # it runs, but its output is not a tensor
        raise
    except Exception as error:  # the user's own code may raise anything
        return error
    return None


def _usual_shapes(weights: Weights) -> list[tuple[int, ...]]:
    """Shapes of an example, by what the first weight reads, then by what the others do.

    In a safetensors file the first one is not that of the first layer: names are sorted there.
    """
    widths = dict.fromkeys(w.shape[1] for w in weights.values() if w.ndim >= 2 and w.is_floating_point())
    return [shape for place, width in enumerate(widths) for shape in _shapes_of(width, is_first=not place)]


def _shapes_of(width: int, *, is_first: bool) -> list[tuple[int, ...]]:
    images = [(width, s, s) for s in (28, 32, 64, 96, 224, 16, 14, 8) if width * s * s <= _MOST_NUMBERS]
    return [(width,), (8, width), *(images if is_first or width <= _MOST_COLOURS else []), (width, 64)]
