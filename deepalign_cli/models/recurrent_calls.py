"""Recurrent modules, run one layer after the other, so that what enters each layer can be seen.

PyTorch runs all layers of an `nn.GRU`, `nn.LSTM` or `nn.RNN` in one call: what the second layer reads from
the first never appears. The same layers in calls of their own give the same outputs. Two layers of 8 units:

    one call     x [b, t, 10] -> y [b, t, 8]
    by layers    x [b, t, 10] -> h [b, t, 8] -> y [b, t, 8]       weight_ih_l1 [3*8, 8] reads h
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

_ATEN = torch.ops.aten

RECURRENT = frozenset(
    {
        torch.gru, torch.lstm, torch.rnn_tanh, torch.rnn_relu,
        _ATEN.gru.input, _ATEN.lstm.input, _ATEN.rnn_tanh.input, _ATEN.rnn_relu.input,
    }
)  # fmt: skip

Reads = Callable[[Tensor, Tensor], None]


def run_by_layers(func: Callable[..., Any], args: Sequence[Any], reads: Reads) -> Any:
    """What a function of `RECURRENT` returns; `reads` is told every layer's input weights and its input.

    Packed sequences, and layers with dropout between them, are run in one call and told nothing of.
    """
    if len(args) != 9 or not isinstance(args[3], bool):  # packed: the sizes of the batches come second
        return func(*args)
    x, start, weights, has_biases, layers, dropout, training, both_ways, batch_first = args
    if training and dropout:
        return func(*args)
    directions = 2 if both_ways else 1
    share = len(weights) // layers
    ends: list[Sequence[Tensor]] = []
    for layer in range(layers):
        own = weights[layer * share : (layer + 1) * share]
        for weight in own[:: share // directions]:
            reads(weight, x)
        place = slice(layer * directions, (layer + 1) * directions)
        begun = start[place] if isinstance(start, Tensor) else [state[place] for state in start]
        x, *states = func(x, begun, own, has_biases, 1, 0.0, training, both_ways, batch_first)
        ends.append(states)
    return (x, *_joined(ends))


def _joined(ends: Sequence[Sequence[Tensor]]) -> list[Shaped[Tensor, "layers ..."]]:
    """The last states of all layers, of each kind: h, and c of an LSTM."""
    return [torch.cat(states) for states in zip(*ends, strict=True)]
