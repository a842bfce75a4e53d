"""How far a network's outputs are from those of two others on average: a loss that needs no labels.

Where the outputs are classes it is the cross-entropy to the mean of the two networks' probabilities, else the
squared error to their mean, in units of its variance.
"""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional

from deepalign_cli.errors import DataError
from deepalign_cli.models.on_device import placed_for
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.symmetry.symmetry import Weights

_MOST_EXAMPLES = 4096
_JUDGED = 512  # examples
_MOST_NUMBERS = 2**26  # of outputs that are kept; others are made again at each use


class Parents:
    """Two networks to be close to, and examples to be close on.

    Raises:
        DataError: there are no examples.
    """

    def __init__(self, run: Run, a: Weights, b: Weights, batches: Batches) -> None:
        self._run, self._both = run, (placed_for(run, dict(a)), placed_for(run, dict(b)))
        kept: list[Tensor] = []
        for x in batches():
            kept.append(x)
            if sum(map(len, kept)) >= _MOST_EXAMPLES:
                break
        if not kept:
            raise DataError("there are no inputs to run the networks on.", "see that the data are not empty.")
        self._batch = len(kept[0])
        self._inputs = torch.cat([x for x in kept if x.shape[1:] == kept[0].shape[1:]])[:_MOST_EXAMPLES]
        first = self._targets(self._inputs[:1])
        self._known = None
        if first.numel() * len(self._inputs) <= _MOST_NUMBERS:
            self._known = torch.cat([self._targets(x) for x in self._split(self._inputs)])

    @property
    def batch(self) -> int:
        """How many examples are run at once."""
        return self._batch

    def __len__(self) -> int:
        return len(self._inputs)

    def __call__(self, weights: Weights, places: Int64[Tensor, " batch"]) -> Tensor:
        """The mean loss of a network on some of the examples; it can be differentiated."""
        x = self._inputs[places]
        targets = self._targets(x) if self._known is None else self._known[places]
        return _distance(self._output(weights, x), targets)

    def judge(self, weights: Weights) -> float:
        """The loss on examples that are always the same."""
        with torch.no_grad():
            parts = self._split(torch.arange(min(_JUDGED, len(self))))
            return sum(float(self(weights, part)) * len(part) for part in parts) / sum(map(len, parts))

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return torch.split(x, self._batch)

    def _targets(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            outputs = (self._output(weights, x) for weights in self._both)
            return sum((_meant(out) for out in outputs), torch.zeros(())) / 2

    def _output(self, weights: Weights, x: Tensor) -> Tensor:
        return self._run(weights, x)


def _is_classes(out: Tensor) -> bool:
    return out.ndim in (2, 3) and out.shape[-1] > 1


def _meant(out: Tensor) -> Tensor:
    return out.softmax(-1) if _is_classes(out) else out


def _distance(out: Tensor, target: Tensor) -> Tensor:
    if _is_classes(out):
        return functional.cross_entropy(out.flatten(0, -2), target.flatten(0, -2))
    return functional.mse_loss(out, target) / target.var().clamp(min=1e-30)
