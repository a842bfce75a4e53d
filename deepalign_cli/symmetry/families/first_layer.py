"""Where values enter a network that is read: the layer that reads them, and putting a group on that axis."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deepalign_cli.errors import DeepalignError
from deepalign_cli.symmetry.axes import parse_axes
from deepalign_cli.symmetry.families import chain
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec


@dataclass(frozen=True)
class FirstLayer:
    """The first layer: its path, how many numbers it reads, and the axes of its tensors that read them."""

    path: str
    width: int
    places: tuple[tuple[str, int], ...]


def first_of_chain(layout: Layout) -> FirstLayer | None:
    """The first layer of a chain that begins with a linear layer; None for others."""
    try:
        whole = chain.read(layout)
    except DeepalignError:
        return None
    if whole is None or whole.layers[0].is_conv or None in whole.hosts.values():
        return None
    layer = whole.layers[0]
    return FirstLayer(
        layer.module.path, layer.into, ((layer.module.names["weight"], 0 if layer.transposed else 1),)
    )


def fed(spec: Spec, entry: FirstLayer, axis: str) -> Spec:
    """The spec in which the first layer reads the units of `axis` in place of labelled inputs."""
    axes = dict(spec.axes)
    for name, place in entry.places:
        parts = list(axes[name])
        parts[place] = parse_axes(axis, name)[0]
        axes[name] = tuple(parts)
    return replace(spec, axes=axes)
