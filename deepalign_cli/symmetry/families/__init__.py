"""Known architecture families. Each has `match(layout) -> Spec | None`; the first that matches is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deepalign_cli.symmetry.families import chain, encoder_blocks, parts, residual
from deepalign_cli.symmetry.families.constants import without_constants
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec

FAMILIES: tuple[Callable[[Layout], Spec | None], ...] = (encoder_blocks.match, residual.match, chain.match)


def first_match(layout: Layout) -> Spec | None:
    """The spec of the first family that matches.

    Raises:
        SpecError, AmbiguousError, UsageError: as the families do.
    """
    units, assumptions = without_constants(layout)
    spec = _read(units)
    return spec and replace(spec, assumptions=(*spec.assumptions, *assumptions))


def _read(layout: Layout) -> Spec | None:
    before_parts = (family(layout) for family in FAMILIES[:-1])
    whole = next((spec for spec in before_parts if spec is not None), None)
    return whole or parts.match(layout, _read) or FAMILIES[-1](layout)
