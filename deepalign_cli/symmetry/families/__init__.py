"""Known architecture families. Each has `match(layout) -> Spec | None`; the first that matches is taken."""

from __future__ import annotations

from collections.abc import Callable

from deepalign_cli.symmetry.families import chain, encoder_blocks, residual
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec

FAMILIES: tuple[Callable[[Layout], Spec | None], ...] = (encoder_blocks.match, residual.match, chain.match)

__all__ = ["FAMILIES"]
