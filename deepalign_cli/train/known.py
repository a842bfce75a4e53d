"""The symmetry of a design, read off names and shapes as for any checkpoint, or traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.models.designs import Design
from deepalign_cli.models.subject import subject_of
from deepalign_cli.symmetry.families import first_match
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.pipeline import trace


def symmetry_of(design: Design, network: Mapping[str, Tensor]) -> Symmetry:
    """Which units of a design's networks, of which one is given, may change places.

    Raises:
        SpecError: names and shapes fit no known family. AmbiguousError: they can be read in two ways.
    """
    shapes = {name: tuple(w.shape) for name, w in network.items()}
    if is_traced(design):
        return Symmetry(replace(traced_spec(design), kinds={}, phases={}), shapes)
    layout = Layout(shapes, getattr(design, "heads", None), ordered=True)
    spec = first_match(layout)
    if spec is None:
        raise SpecError("names and shapes fit no known family.", "docs/specs.md lists the families.")
    return Symmetry(spec, shapes)


def is_traced(design: Design) -> bool:
    """Whether the names and shapes of a design's tensors do not tell what may move."""
    return getattr(design, "is_traced", False)


@cache
def traced_spec(design: Design) -> Spec:
    """What may move in a design's networks, asked of the design itself.

    Raises:
        SpecError: it cannot be traced.
    """
    subject = subject_of(design, design.init(torch.Generator()))
    spec = trace(subject.module, subject.example, source="a trace of the design").spec
    called = {own: name for name, own in subject.names.items()}
    return spec.renamed(lambda own: called.get(own, own))
