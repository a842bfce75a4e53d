"""Two networks brought to canonical scales, between which a match is found and carried back."""

from __future__ import annotations

from deepalign_cli.aligners.alignment import distance
from deepalign_cli.aligners.canonical import canonical_scales
from deepalign_cli.aligners.gains import Gains
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights


class Pair:
    """Two networks in canonical scales: `views` of them, and their matching `problem`."""

    def __init__(self, symmetry: Symmetry, reference: Weights, moving: Weights) -> None:
        self.symmetry, self.reference, self.moving = symmetry, reference, moving
        self._own, self._other = (scales_of(symmetry, weights) for weights in (reference, moving))
        self.views = Acted(symmetry, self._own, reference), Acted(symmetry, self._other, moving)
        self.problem = Gains(symmetry, *self.views)

    def viewed(self, element: Element) -> Element:
        """An element between the networks as they came, as one between the views."""
        return self._own @ element @ self._other.inverse()

    def carried(self, match: Element) -> Element:
        """The element that does to the networks as they came what a match does to the views."""
        return self._own.inverse() @ match @ self._other

    def closest(self, found: Element) -> tuple[Element, float]:
        """A match of the views on the networks as they came, and the distance that it leaves.

        Between canonical scales or, where that is closer, with every scale as it is.
        """
        elements = [self.carried(found)]
        if self._own.scale:
            elements.append(found)
        apart = [distance(self.symmetry, self.reference, self.moving, element) for element in elements]
        best = min(range(len(elements)), key=apart.__getitem__)
        return elements[best], apart[best]


def scales_of(symmetry: Symmetry, weights: Weights) -> Element:
    """The element that brings a network to canonical scales; an empty one where no group has scales."""
    return canonical_scales(symmetry, weights) if symmetry.stretching else Element({})
