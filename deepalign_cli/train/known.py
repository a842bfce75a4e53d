"""The symmetry of a design, read off names and shapes as for any checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.models.designs import Design
from deepalign_cli.symmetry.families import FAMILIES
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.symmetry import Symmetry


def symmetry_of(design: Design, network: Mapping[str, Tensor]) -> Symmetry:
    """What may move in networks of a design, of which one is given.

    Raises:
        SpecError: the names and shapes are of no family that is known. AmbiguousError: they could be read
        in two ways.
    """
    shapes = {name: tuple(w.shape) for name, w in network.items()}
    layout = Layout(shapes, getattr(design, "heads", None), ordered=True)
    spec = next((spec for match in FAMILIES if (spec := match(layout)) is not None), None)
    if spec is None:
        raise SpecError("no family's names and shapes are like these.", "docs/specs.md lists the families.")
    return Symmetry(spec, shapes)
