"""Which layer of a chain a norm belongs to, from positions, numbers and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from deepalign_cli.symmetry.draft import ambiguous, misfit
from deepalign_cli.symmetry.layout import Module
from deepalign_cli.symmetry.tensor_names import numbers, pieces, stands_before


@runtime_checkable
class ChainLayer(Protocol):
    """What this file needs to know of a layer: its module, and its extents."""

    @property
    def module(self) -> Module: ...
    @property
    def out(self) -> int: ...
    @property
    def into(self) -> int: ...
    @property
    def is_conv(self) -> bool: ...


def host_of(norm: Module, chain: Sequence[ChainLayer], norms: Sequence[Module]) -> int | None:
    """The number of the layer whose outputs the norm acts on; None for the network's inputs.

    Raises:
        AmbiguousError: names and sizes leave more than one layer.
        SpecError: no layer fits.
    """
    fitting = [i for i, layer in enumerate(chain) if _fits(layer, norm.size)]
    inputs = [-1] if chain[0].into == norm.size else []
    placed = _by_position(norm, chain)
    if placed is not None:
        hosts = [i for i in (*inputs, *fitting) if i == placed]
    else:
        hosts = _by_number(norm, chain, fitting, norms) or fitting + inputs
    if not hosts:
        raise misfit(f"'{norm.path}' has {norm.size} units, which fits no layer before it.")
    if len(hosts) > 1:
        a, b = (chain[i].module.path if i >= 0 else "the inputs" for i in hosts[:2])
        raise ambiguous(f"'{norm.path}' may belong to '{a}' or to '{b}'.")
    return None if hosts[0] < 0 else hosts[0]


def _fits(layer: ChainLayer, size: int) -> bool:
    return layer.out == size or (layer.is_conv and size > 0 and size % layer.out == 0)


def _by_position(norm: Module, chain: Sequence[ChainLayer]) -> int | None:
    """The layer just before the norm in a numbered sequence of both, if they stand in one."""
    before = [stands_before(layer.module.path, norm.path) for layer in chain]
    earlier = [i for i, b in enumerate(before) if b]
    later = [i for i, b in enumerate(before) if b is False]
    if earlier and (not later or later[0] == earlier[-1] + 1):
        beside = any(pieces(layer.module.path)[0] == pieces(norm.path)[0] for layer in chain)
        return None if beside else earlier[-1]
    if later and later[0] == 0:
        return -1
    return None


def _by_number(
    norm: Module, chain: Sequence[ChainLayer], fitting: list[int], norms: Sequence[Module]
) -> list[int]:
    """The layers with the norm's own numbers (`bn2` and `conv2`), before or after which it stands."""
    own = numbers(norm.path)
    if not own:
        return []
    same = [i for i, layer in enumerate(chain) if numbers(layer.module.path) == own]
    after = [i for i in same if i in fitting]
    if len(after) > 1:
        convs = [i for i in after if chain[i].is_conv]
        if len(convs) == 1 and len(norms) == sum(layer.is_conv for layer in chain):
            return convs
    return after or [i - 1 for i in same if chain[i].into == norm.size]
