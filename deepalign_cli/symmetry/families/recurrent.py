"""Recurrent classifiers: `nn.LSTM`, `nn.GRU` or `nn.RNN` of any depth and direction, then linear layers.

Gates are blocks of the hidden units, which move together, and with them the state that comes back:

    weight_ih_l0  [4*24, 16]    4*l0 16
    weight_hh_l0  [4*24, 24]    4*l0 l0
    weight_ih_l1  [4*24, 48]    4*l1 l0|l0_reverse      behind both directions of a layer
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.draft import Draft, ambiguous, misfit
from deepalign_cli.symmetry.families import chain
from deepalign_cli.symmetry.families.first_layer import FirstLayer, fed, first_of_chain
from deepalign_cli.symmetry.families.joins import nothing_between
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import group_name, pieces, stands_before

_ROLE = re.compile(r"(?:weight|bias)_(?:ih|hh)_l(?P<layer>\d{1,3})(?P<reverse>_reverse)?")
_GATES = (1, 3, 4)  # RNN, GRU, LSTM


@dataclass(frozen=True)
class Recurrent:
    """One layer of a recurrent module: the directions' suffixes (`l0`, `l0_reverse`) and its sizes."""

    module: Module
    suffixes: tuple[str, ...]
    gates: int
    units: int
    into: int

    @property
    def path(self) -> str:
        return self.module.path

    @property
    def width(self) -> int:
        """How many numbers it hands on: the units of all directions."""
        return self.units * len(self.suffixes)

    @property
    def readers(self) -> list[str]:
        """The tensors whose second axis reads the layer's inputs."""
        return [self.module.names[f"weight_ih_{suffix}"] for suffix in self.suffixes]

    def groups(self) -> list[str]:
        """A group of units for each direction."""
        return [group_name(f"{self.path}.{suffix}") for suffix in self.suffixes]


def match(layout: Layout) -> Spec | None:
    """The spec of a recurrent network, or None if this is not one.

    Raises:
        AmbiguousError: what reads the states is not clear. SpecError: shapes contradict one another.
    """
    layers = stack(layout)
    if layers is None:
        return None
    head = layout.without([layer.module for layer in layers])
    rest = chain.match(head) if head.shapes else None
    if head.shapes and rest is None:
        return None
    draft = Draft("recurrent network")
    into = str(layers[0].into)
    for number, layer in enumerate(layers):
        into = _write(draft, layer, into, is_output=not head.shapes and number == len(layers) - 1)
    spec = draft.spec()
    paths = list(dict.fromkeys(layer.path for layer in layers))
    assumptions: tuple[str, ...] = ()
    if rest is not None:
        entry = first_of_chain(head)
        if entry is None or entry.width != layers[-1].width:
            raise ambiguous(
                f"nothing says how what follows '{layers[-1].path}' reads its {layers[-1].width} units."
            )
        rest = fed(rest, entry, into)
        spec, assumptions = replace(spec, axes={**spec.axes, **rest.axes}), rest.assumptions
        paths.append(entry.path)
    lines = (*assumptions, *_skips(layers), nothing_between(paths)) if len(paths) > 1 else assumptions
    return replace(spec, assumptions=lines, basis=Basis.READ)


def _skips(layers: list[Recurrent]) -> list[str]:
    """Layers that write as many numbers as they read, around which a skip connection may run."""
    return [
        f"no skip connection is assumed around '{layer.path}', which reads and writes {layer.into} numbers"
        for layer in layers
        if layer.width == layer.into
    ][:1]


def first_of_recurrent(layout: Layout) -> FirstLayer | None:
    """The first recurrent layer, or None where there is none."""
    layers = stack(layout)
    if layers is None:
        return None
    return FirstLayer(layers[0].path, layers[0].into, tuple((name, 1) for name in layers[0].readers))


def stack(layout: Layout) -> list[Recurrent] | None:
    """The recurrent layers in their order, or None where there are none.

    Raises:
        SpecError: their shapes contradict one another, or a tensor's role is not known.
    """
    modules = [m for m in layout.modules().values() if any(_ROLE.fullmatch(role) for role in m.shapes)]
    if not modules:
        return None
    modules.sort(key=lambda m: pieces(m.path))
    for one, other in pairwise(modules):
        if not stands_before(one.path, other.path):
            raise ambiguous(f"nothing says whether '{one.path}' feeds '{other.path}' or hands its state on.")
    layers = [layer for module in modules for layer in _layers(module)]
    for before, after in pairwise(layers):
        if after.into != before.width:
            raise misfit(
                f"'{after.path}' reads {after.into} numbers, but '{before.path}' has {before.width}."
            )
    return layers


def _layers(module: Module) -> list[Recurrent]:
    numbers: dict[int, set[str]] = {}
    for role in module.shapes:
        match = _ROLE.fullmatch(role)
        if match is None:
            raise misfit(f"'{module.names[role]}' has no place in a recurrent layer that is known.")
        numbers.setdefault(int(match["layer"]), set()).add(f"l{match['layer']}{match['reverse'] or ''}")
    return [_layer(module, tuple(sorted(numbers[n]))) for n in sorted(numbers)]


def _layer(module: Module, suffixes: tuple[str, ...]) -> Recurrent:
    shapes = module.shapes
    rows, units = shapes.get(f"weight_hh_{suffixes[0]}", (0, 0))
    into = shapes.get(f"weight_ih_{suffixes[0]}", (0, 0))[-1]
    gates = rows // units if units else 0
    sizes = {"weight_ih": (rows, into), "weight_hh": (rows, units), "bias_ih": (rows,), "bias_hh": (rows,)}
    for suffix in suffixes:
        for part, size in sizes.items():
            if shapes.get(f"{part}_{suffix}", size if part.startswith("bias") else ()) != size:
                raise misfit(f"the shapes of '{module.path}' are not those of a recurrent layer.")
    if gates not in _GATES or rows != gates * units:
        raise misfit(f"the shapes of '{module.path}' are not those of a recurrent layer.")
    return Recurrent(module, suffixes, gates, units, into)


def _write(draft: Draft, layer: Recurrent, into: str, *, is_output: bool) -> str:
    """Write one layer, and return the axis of what it hands on."""
    units = [str(layer.units)] * len(layer.suffixes) if is_output else layer.groups()
    for suffix, group in zip(layer.suffixes, units, strict=True):
        rows = group if layer.gates == 1 else f"{layer.gates}*{group}"
        texts = {
            "weight_ih": f"{rows} {into}",
            "weight_hh": f"{rows} {group}",
            "bias_ih": rows,
            "bias_hh": rows,
        }
        for part, text in texts.items():
            if name := layer.module.names.get(f"{part}_{suffix}"):
                draft.axes[name] = text
    return "|".join(units)
