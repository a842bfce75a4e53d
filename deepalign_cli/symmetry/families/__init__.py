"""Known architecture families. Each has `match(layout) -> Spec | None`; the first that matches is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deepalign_cli.symmetry.families import chain, embeddings, encoder_blocks, parts, recurrent, residual
from deepalign_cli.symmetry.families.constants import without_constants
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import pieces

Match = Callable[[Layout], Spec | None]
FAMILIES: tuple[Match, ...] = (
    encoder_blocks.match,
    lambda layout: parts.match(layout, _read, by_likeness=False),
    residual.match,
    lambda layout: parts.match(layout, _read, by_likeness=True),
    lambda layout: embeddings.match(layout, _read),
    recurrent.match,
    chain.match,
)


def first_match(layout: Layout) -> Spec | None:
    """The spec of the first family that matches.

    Raises:
        SpecError, AmbiguousError, UsageError: as the families do.
    """
    # In one order, whatever the file's: the same network must be read the same from any file.
    ordered = {name: layout.shapes[name] for name in sorted(layout.shapes, key=pieces)}
    units, assumptions = without_constants(replace(layout, shapes=ordered))
    spec = _read(units)
    return spec and replace(spec, assumptions=(*spec.assumptions, *assumptions))


def _read(layout: Layout) -> Spec | None:
    return next((spec for match in FAMILIES if (spec := match(layout)) is not None), None)
