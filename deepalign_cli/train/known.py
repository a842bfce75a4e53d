"""The symmetry of a design, read off names and shapes as for any checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.models.designs import Design
from deepalign_cli.symmetry.families import first_match
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.symmetry import Symmetry


def symmetry_of(design: Design, network: Mapping[str, Tensor]) -> Symmetry:
    """What may move in networks of a design, of which one is given.

    Raises:
        SpecError: names and shapes fit no known family. AmbiguousError: they can be read in two ways.
    """
    shapes = {name: tuple(w.shape) for name, w in network.items()}
    layout = Layout(shapes, getattr(design, "heads", None), ordered=True)
    spec = first_match(layout)
    if spec is None:
        raise SpecError("names and shapes fit no known family.", "docs/specs.md lists the families.")
    return Symmetry(spec, shapes)
