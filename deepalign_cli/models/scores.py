"""Which outputs are scores of classes, as far as their shape and the inputs tell."""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor


def are_scores(x: Shaped[Tensor, "batch ..."], outputs: Shaped[Tensor, "batch ..."]) -> bool:
    """Whether the last axis of a network's outputs for inputs `x` holds scores of classes.

    So it does where there is one row of several numbers an input, and where there is one a token with a score
    for every token of the inputs. Rows of features for each token, images and sequences of numbers are none:
    nobody could tell a class from a channel or a time.
    """
    if outputs.ndim == 2:
        return outputs.shape[1] > 1
    reads_tokens = not x.is_floating_point() and x.numel() > 0
    return reads_tokens and outputs.ndim == 3 and outputs.shape[2] > max(1, int(x.max()))
