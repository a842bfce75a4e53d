"""Known architecture families. Each has `match(layout) -> Spec | None`; the first that matches is taken."""

from __future__ import annotations

from collections.abc import Callable

from deepalign_cli.symmetry.families import chain, encoder_blocks, residual
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec

FAMILIES: tuple[Callable[[Layout], Spec | None], ...] = (encoder_blocks.match, residual.match, chain.match)


def first_match(layout: Layout) -> Spec | None:
    """The spec of the first family that matches.

    Raises:
        SpecError, AmbiguousError, UsageError: as the families do.
    """
    return next((spec for match in FAMILIES if (spec := match(layout)) is not None), None)
