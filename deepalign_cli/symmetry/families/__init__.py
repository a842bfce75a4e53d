"""Known architecture families. Each has `match(layout) -> Spec | None`; the first that matches is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deepalign_cli.symmetry.families import chain, embeddings, encoder_blocks, parts, recurrent, residual
from deepalign_cli.symmetry.families.constants import without_constants
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec

Match = Callable[[Layout], Spec | None]
FAMILIES: tuple[Match, ...] = (
    encoder_blocks.match,
    residual.match,
    lambda layout: parts.match(layout, _read),
    lambda layout: embeddings.match(layout, _read),
    recurrent.match,
    chain.match,
)


def first_match(layout: Layout) -> Spec | None:
    """The spec of the first family that matches.

    Raises:
        SpecError, AmbiguousError, UsageError: as the families do.
    """
    units, assumptions = without_constants(layout)
    spec = _read(units)
    return spec and replace(spec, assumptions=(*spec.assumptions, *assumptions))


def _read(layout: Layout) -> Spec | None:
    return next((spec for match in FAMILIES if (spec := match(layout)) is not None), None)
