"""Random readings of labelled axes, shared by all networks that are compared under them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.network.waves import sketch, white_columns


class Sketches:
    """The coordinates of labelled axes under one sketch for each of `seeds`, drawn once for every extent.

    With `orthogonal`, the white columns of as many sketches as an axis has room for are at right angles to
    one another. What several sketches say of an axis then repeats itself less, so that fewer are needed
    (orthogonal random features: Yu et al. 2016). A sketch does not depend on those after it.
    """

    def __init__(self, seeds: Sequence[int], *, orthogonal: bool = False) -> None:
        self.seeds, self.orthogonal = list(seeds), orthogonal
        self._drawn: dict[tuple[int, int, int], list[Tensor]] = {}
        self._numbers = range(len(self.seeds))

    def part(self, start: int, stop: int) -> Sketches:
        """Some of the sketches, which share what has been drawn."""
        part = Sketches(self.seeds, orthogonal=self.orthogonal)
        part._drawn, part._numbers = self._drawn, self._numbers[start:stop]
        return part

    def __len__(self) -> int:
        return len(self._numbers)

    def __call__(
        self, labels: int, waves: int, channels: int, like: Tensor
    ) -> Float[Tensor, "labels waves sketches channels"]:
        """The coordinates of an axis, in the type and on the device of `like`."""
        drawn = self._drawn.setdefault((labels, waves, channels), [])
        while len(drawn) < self._numbers.stop:
            seed = self.seeds[len(drawn)]
            one = sketch(seed, labels, waves, channels, torch.empty(0))
            drawn.append(_straightened(one, drawn) if self.orthogonal else one)
        return torch.stack([drawn[i] for i in self._numbers], dim=2).to(like.device, like.dtype)


def _straightened(
    one: Float[Tensor, "labels waves channels"], drawn: Sequence[Float[Tensor, "labels waves channels"]]
) -> Float[Tensor, "labels waves channels"]:
    """A sketch with its white columns at right angles to one another and to those of sketches before it.

    Where the axis has fewer places than there are columns, its places are at right angles instead, so that
    the sketch keeps inner products exactly. Columns keep their mean square of one.
    """
    labels, waves, channels = one.shape
    count = white_columns(labels, waves, channels)
    white = one[:, :, :count].reshape(-1, count)
    if len(white) < count:
        straight = _basis(white.T).T * count**0.5
    else:
        together = len(drawn) % (len(white) // count)  # sketches before it in its own set of columns
        for _ in range(2):  # once more for what rounding has left
            for earlier in drawn[len(drawn) - together :]:
                before = earlier[:, :, :count].reshape(-1, count)
                white = white - before @ (before.T @ white) / len(white)
        straight = _basis(white) * len(white) ** 0.5
    return torch.cat([straight.reshape(labels, waves, count), one[:, :, count:]], dim=2)


def _basis(columns: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Orthonormal columns of the same span; uniformly distributed where the columns are Gaussian."""
    q, r = torch.linalg.qr(columns.double())
    basis: Tensor = (q * r.diagonal().sign()).to(columns.dtype)
    return basis
