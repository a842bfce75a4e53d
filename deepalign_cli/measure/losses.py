"""The losses that networks are measured by, summed in float64 so that means do not depend on the batches.

The labels' type tells which one: integers are classes, floating-point numbers are values, and tokens without
labels are to be continued.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.nn import functional

from deepalign_cli.errors import DataError, UsageError
from deepalign_cli.user_code import guarded, load_attribute

# The sum of the losses, which can be differentiated, the number of right answers (None where answers are not
# right or wrong), and over how many.
Total = tuple[Tensor, float | None, int]

_IGNORED = -100  # a place without a label, as torch.nn.functional.cross_entropy has it
_OWN = "give --loss path/to/file.py:loss, where loss(outputs, labels) is the mean over a batch."
_HINT = "compare the network's outputs with the labels; --loss picks another loss."


@runtime_checkable
class Loss(Protocol):
    """Outputs and labels of a batch to their sums. `name` is what the user is told."""

    @property
    def name(self) -> str: ...

    def __call__(
        self, outputs: Shaped[Tensor, "batch ..."], labels: Shaped[Tensor, "batch ..."]
    ) -> Total: ...


@dataclass(frozen=True)
class CrossEntropy:
    """Of classes: outputs [b, c] for labels [b], or [b, t, c] for [b, t]; labels of -100 do not count."""

    name: str = "cross-entropy"

    def __call__(self, outputs: Shaped[Tensor, "batch ..."], labels: Shaped[Tensor, "batch ..."]) -> Total:
        """Raises DataError where the shapes do not fit, or a label has no output."""
        if outputs.ndim != labels.ndim + 1 or outputs.shape[:-1] != labels.shape:
            raise _misfit(outputs, labels)
        logits, classes = outputs.flatten(0, -2), _whole(labels.flatten())
        counted = classes != _IGNORED
        logits, classes = logits[counted], classes[counted]
        if len(classes) and int(classes.max()) >= logits.shape[1]:
            raise DataError(
                f"the labels go up to {int(classes.max())}, but the network has {logits.shape[1]} outputs.",
                "use the data set that the network was trained on.",
            )
        if len(classes) and int(classes.min()) < 0:
            raise DataError(f"a label is {int(classes.min())}.", "class labels must be integers from 0.")
        each = functional.cross_entropy(_wide(logits), classes, reduction="none")
        right = (logits.argmax(1) == classes).sum()
        return each.sum(dtype=torch.float64), float(right), len(classes)


@dataclass(frozen=True)
class MeanSquare:
    """The squared error, over all entries of the outputs; nothing is right or wrong."""

    name: str = "mean squared error"

    def __call__(self, outputs: Shaped[Tensor, "batch ..."], labels: Shaped[Tensor, "batch ..."]) -> Total:
        """Raises DataError where the shapes do not fit; one output fits labels without an axis for it."""
        if outputs.shape == (*labels.shape, 1):
            labels = labels.unsqueeze(-1)
        if outputs.shape != labels.shape:
            raise _misfit(outputs, labels)
        outputs = _wide(outputs)
        error = (outputs - labels.to(outputs.dtype)).square()
        return error.sum(dtype=torch.float64), None, error.numel()


@dataclass(frozen=True)
class CausalLM:
    """Cross-entropy of every next token: outputs [b, t, c] at t are for the token at t + 1."""

    name: str = "causal-LM cross-entropy"

    def __call__(self, outputs: Shaped[Tensor, "batch ..."], labels: Shaped[Tensor, "batch ..."]) -> Total:
        """Raises DataError where the shapes do not fit, or a token has no output."""
        if labels.ndim != 2 or outputs.ndim != 3 or labels.shape[1] < 2:
            hint = "causal-lm takes rows of two tokens or more, and an output for each token."
            raise _misfit(outputs, labels, "tokens", hint)
        return CrossEntropy()(outputs[:, :-1], labels[:, 1:])


@dataclass(frozen=True)
class ToParents:
    """How far outputs are from the mean of the parents' own, which stands in place of labels.

    Of scores of classes the Kullback-Leibler divergence from the parents' mean chances; of anything else the
    squared error, over the variance of the parents' mean.
    """

    of_classes: bool
    variance: float = 1.0

    @property
    def name(self) -> str:
        return "divergence from the parents" if self.of_classes else "squared error to the parents"

    def targets(self, outputs: Sequence[Shaped[Tensor, "batch ..."]]) -> Shaped[Tensor, "batch ..."]:
        """The labels: the mean of what the parents give."""
        wide = [_wide(out).softmax(-1) if self.of_classes else _wide(out) for out in outputs]
        return torch.stack(wide).mean(0)

    def __call__(self, outputs: Shaped[Tensor, "batch ..."], labels: Shaped[Tensor, "batch ..."]) -> Total:
        """Raises DataError where the shapes do not fit."""
        if outputs.shape != labels.shape:
            raise _misfit(outputs, labels)
        outputs = _wide(outputs)
        if not self.of_classes:
            total, none, count = MeanSquare()(outputs, labels)
            return total / self.variance, none, count
        each = functional.kl_div(outputs.log_softmax(-1), labels.to(outputs.dtype), reduction="none").sum(-1)
        return each.sum(dtype=torch.float64), None, each.numel()


@dataclass(frozen=True)
class UserLoss:
    """The user's own `loss(outputs, labels)`, a mean over the batch. Whole-number labels are classes."""

    name: str
    function: Callable[..., Any]

    def __call__(self, outputs: Shaped[Tensor, "batch ..."], labels: Shaped[Tensor, "batch ..."]) -> Total:
        """Raises DeepalignError where the user's code does, UsageError where it returns no number."""
        value = guarded(lambda: self.function(outputs, labels), self.name)
        try:
            mean = torch.as_tensor(value).double().reshape(())
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(
                f"'{self.name}' returned {type(value).__name__}, not one number.",
                "return the mean loss of the batch.",
            ) from None
        right = None
        if not labels.is_floating_point() and outputs.ndim == 2 and labels.shape == outputs.shape[:1]:
            right = float((outputs.argmax(1) == labels).sum())
        return mean * len(outputs), right, len(outputs)


_BY_NAME: Mapping[str, Callable[[], Loss]] = {
    "cross-entropy": CrossEntropy,
    "mse": MeanSquare,
    "causal-lm": CausalLM,
}


def pick_loss(
    source: str | Callable[..., Any] | None, inputs: Shaped[Tensor, "batch ..."],
    labels: Shaped[Tensor, "batch ..."] | None,
) -> tuple[Loss, str]:  # fmt: skip
    """The loss that `source` names (or `file.py:loss`, which runs the user's code), or that labels ask for.

    `source` may be a function of outputs and labels itself.

    Also says why it is this one.

    Raises:
        UsageError: there is no such loss. DataError: there are no labels, and the inputs are no tokens.
    """
    if callable(source):
        return UserLoss(getattr(source, "__name__", type(source).__name__), source), "your own"
    if source is not None and source in _BY_NAME:
        if labels is None and source == CrossEntropy.name:
            raise DataError("cross-entropy needs labels.", "add them, or use --loss causal-lm for tokens.")
        return _BY_NAME[source](), "as requested"
    if source is not None and ":" in source:
        return UserLoss(source, load_attribute(source, _OWN)), "your own"
    if source is not None:
        raise UsageError(f"there is no loss '{source}'.", f"one of {', '.join(_BY_NAME)}, or file.py:loss.")
    if labels is None:
        if inputs.ndim == 2 and not inputs.is_floating_point():
            return CausalLM(), "the inputs are tokens and there are no labels"
        raise DataError("the data have no labels.", "add them, or give --loss file.py:loss.")
    if labels.is_floating_point():
        return MeanSquare(), "the labels are floating point"
    return CrossEntropy(), "the labels are integers"


def _whole(labels: Shaped[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Classes as integers. Raises DataError where floating-point labels are not whole numbers."""
    if labels.is_floating_point() and not torch.equal(labels, labels.round()):
        raise DataError("cross-entropy needs integer labels.", "use --loss mse for values.")
    return labels.long()


def _wide(x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
    """In float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def _misfit(outputs: Tensor, labels: Tensor, what: str = "labels", hint: str = _HINT) -> DataError:
    shapes = ["x".join(map(str, x.shape)) or "one number" for x in (outputs, labels)]
    return DataError(f"outputs of shape {shapes[0]} do not fit {what} of shape {shapes[1]}.", hint)
