"""What every network does around its own arithmetic: types, shapes, and errors in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.errors import DataError, DeepalignError, one_line
from deepalign_cli.models.run import Run
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import in_dtype

_OTHER = "compare the input that the network expects with the data's shape and preparation."
_SEVERAL = "networks of several inputs are traced, but not run on data or dreams: leave these out."


@dataclass(frozen=True)
class Runnable:
    """A network that runs in its weights' own type; half and smaller types run in float32.

    Weights that need no other type are handed on as the very tensors that came. Inputs take the type of
    the weights, integers (tokens) stay. Where `input_shape` is known, rows of as many numbers, and
    images without their axis of one channel, are brought into it.
    """

    run: Run
    input_shape: tuple[int, ...] | None = None

    def __call__(self, weights: Weights, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        """The outputs.

        Raises:
            DataError: the network raises on inputs of this shape, or does not return one output for each.
        """
        dtype = run_dtype(weights)
        x = self._shaped(x.to(dtype) if x.is_floating_point() else x)
        try:
            out = self.run(in_dtype(weights, dtype), x)
        except DeepalignError:
            raise
        except Exception as error:  # the user's own forward may raise anything
            raise DataError(
                f"the network does not run on an input of {_shown(x)}: {one_line(error)}.",
                _SEVERAL if _is_call_of_several(error) else _OTHER,
            ) from error
        if out.ndim == 0 or len(out) != len(x):
            raise DataError(
                f"the network returned {list(out.shape)} for {len(x)} inputs, not one output for each.",
                "let it keep the batch as the first axis of its outputs.",
            )
        return out

    def _shaped(self, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        wanted = self.input_shape
        if wanted is None or tuple(x.shape[1:]) == wanted:
            return x
        rows = x.ndim == 2 and x.shape[1] == torch.Size(wanted).numel()
        return x.reshape(len(x), *wanted) if rows or (1, *x.shape[1:]) == wanted else x


def run_dtype(weights: Weights) -> torch.dtype:
    """The widest floating-point type among the weights, and at least float32."""
    return torch.float64 if any(w.dtype == torch.float64 for w in weights.values()) else torch.float32


def _shown(x: Tensor) -> str:
    return f"{'x'.join(map(str, x.shape[1:])) or 'one number'} ({str(x.dtype).removeprefix('torch.')})"


def _is_call_of_several(error: Exception) -> bool:
    """Whether the network asks for inputs beside the one that it got."""
    return isinstance(error, TypeError) and "missing" in str(error) and "positional argument" in str(error)
