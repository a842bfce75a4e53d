"""The axes of a value in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deepalign_cli.tracing.expressions import ONE, Expression, Fixed, Form, free
from deepalign_cli.tracing.labels import Labels


class Unfolding:
    """One axis seen as several by a view that is not carried out yet, so that a `select` can cut it."""

    __slots__ = ("axis", "parts", "sizes")

    def __init__(self, axis: Expression, sizes: Sequence[int]) -> None:
        self.axis, self.sizes = axis, tuple(sizes)
        self.parts: list[Expression] | None = None


@dataclass(frozen=True, slots=True)
class Unfolded:
    """The `place`th axis of a view."""

    view: Unfolding
    place: int

    @property
    def size(self) -> int:
        """Its extent."""
        return self.view.sizes[self.place]


@dataclass(slots=True)
class Value:
    """A tensor's axes."""

    lazy: list[Expression | Unfolded]

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.lazy)

    def axes(self, labels: Labels) -> list[Expression]:
        """The axes, with every pending view carried out."""
        axes: list[Expression] = []
        for i, e in enumerate(self.lazy):
            if isinstance(e, Unfolded):
                if e.view.parts is None:
                    e.view.parts = labels.factors(e.view.axis, e.view.sizes)
                e = e.view.parts[e.place]
                self.lazy[i] = e
            axes.append(e)
        return axes


def labelled(shape: Sequence[int]) -> Value:
    """A value none of whose axes may move."""
    return Value([Fixed(int(n)) for n in shape])


@dataclass(frozen=True, slots=True)
class Uniform:
    """A constant that is one number everywhere: at every use its axes are free anew.

    Were they the same at every use, the zero state that all layers of an LSTM begin from would tie them.
    """

    number: float

    def value(self, shape: Sequence[int]) -> Value:
        """The constant as used once; zeros may carry any exponent."""
        form: Form | None = None if self.number == 0 else {}
        return Value([free(int(n), form) if n > 1 else ONE if n == 1 else Fixed(0) for n in shape])


Labelled = Value | Uniform | None
