"""Which layer of a chain each norm belongs to, and on which side of it, from names and sizes.

A norm stands behind its layer (`conv1`, `bn1`) or before it (`norm1`, `fc1`); all norms of a network are
read alike. Where it stands in a numbered sequence with layers (`features.4`), its place there decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from deepalign_cli.errors import AmbiguousError, SpecError
from deepalign_cli.symmetry.draft import ambiguous, misfit
from deepalign_cli.symmetry.families.layer import Layer
from deepalign_cli.symmetry.layout import Module
from deepalign_cli.symmetry.tensor_names import numbers, parent, pieces, stands_before

INPUTS = -1
Hosts = dict[str, int]


def hosts_of(norms: Sequence[Module], chain: Sequence[Layer]) -> dict[str, int | None]:
    """The number of the layer on whose outputs each norm acts; None for the network's inputs.

    Raises:
        AmbiguousError: names and sizes leave more than one layer.
        SpecError: no layer fits.
    """
    readings = _Readings(norms, chain)
    placed = {norm.path: place for norm in norms if (place := _place_in_sequence(norm, chain)) is not None}
    for norm in norms:
        if norm.path in placed and not readings.fits(norm, placed[norm.path]):
            raise _no_layer(norm)
    others = [norm for norm in norms if norm.path not in placed]
    hosts = {**placed, **readings.of(others)}
    return {path: None if host == INPUTS else host for path, host in hosts.items()}


class _Readings:
    """The ways in which norms can be given to layers."""

    def __init__(self, norms: Sequence[Module], chain: Sequence[Layer]) -> None:
        self.norms, self.chain = norms, chain

    def fits(self, norm: Module, host: int) -> bool:
        """Whether a norm has the size of a layer's outputs, flattened for a linear layer or not."""
        if host == INPUTS:
            return self.chain[0].into == norm.size
        layer, following = self.chain[host], self.chain[host + 1 : host + 2]
        flattened = layer.is_conv and any(not f.is_conv and f.into == norm.size for f in following)
        return layer.out == norm.size or flattened

    def of(self, norms: Sequence[Module]) -> Hosts:
        """The one reading of all these norms.

        Raises:
            AmbiguousError: there are several. SpecError: there is none.
        """
        named = [n for n in norms if self._partners(n)]
        hosts = self._by_partner(named) if named else {}
        for norm in norms:
            if norm.path not in hosts:
                hosts[norm.path] = self._by_size(norm, set(hosts.values()) if norm not in named else set())
        return hosts

    def _by_partner(self, named: Sequence[Module]) -> Hosts:
        """The norms whose names tell their layers: behind all of them, or before all."""
        partners = {norm.path: self._partners(norm) for norm in named}
        convs = [i for i, layer in enumerate(self.chain) if layer.is_conv]
        if len(self.norms) == len(convs) and all(set(p) & set(convs) for p in partners.values()):
            partners = {path: [i for i in p if i in convs] for path, p in partners.items()}
        behind = {n.path: [i for i in partners[n.path] if self.fits(n, i)] for n in named}
        before = {n.path: [i for i in partners[n.path] if self.fits(n, i - 1)] for n in named}
        if not all(behind.values()):
            if not all(before.values()):
                return self._by_count(named)
            return {norm.path: self._only(norm, before[norm.path]) - 1 for norm in named}
        hosts = {norm.path: self._only(norm, behind[norm.path]) for norm in named}
        if all(hosts[n.path] in before[n.path] for n in named):
            layer = self.chain[hosts[named[0].path]].module.path
            raise ambiguous(f"'{named[0].path}' may stand before or behind '{layer}'; both fit all sizes.")
        return hosts

    def _only(self, norm: Module, layers: Sequence[int]) -> int:
        if len(layers) > 1:
            raise self._two(norm, layers)
        return layers[0]

    def _by_count(self, named: Sequence[Module]) -> Hosts:
        """Norms numbered through: the k-th stands behind the k-th layer (`conv1`, `conv2`, `fc1`, `bn3`)."""
        ranked = sorted(named, key=lambda n: pieces(n.path))
        counted = {norm.path: i for i, norm in enumerate(ranked)}
        if len(named) <= len(self.chain) and all(self.fits(n, counted[n.path]) for n in named):
            return counted
        return {}

    def _partners(self, norm: Module) -> list[int]:
        """The layers that a norm's name points to: by its container, by a layer's name in it, by number."""
        layers = [layer.module.path for layer in self.chain]
        beside = [i for i, path in enumerate(layers) if parent(path) == parent(norm.path)]
        own = norm.path.rpartition(".")[2]
        called = [i for i in beside if layers[i].rpartition(".")[2] in own and len(own) > 1]
        called = [i for i in called if not layers[i].rpartition(".")[2].isdigit()]
        if called:
            return called[:1] if len(called) == 1 else []
        if len(beside) == 1 and "." in norm.path:
            return beside
        count = numbers(norm.path)
        rest = beside or range(len(layers))
        return [i for i in rest if count and numbers(layers[i]) == count]

    def _by_size(self, norm: Module, taken: set[int]) -> int:
        hosts: list[int] = [i for i in (*range(len(self.chain)), INPUTS) if self.fits(norm, i)]
        beside = [i for i in hosts if i < 0 or parent(self.chain[i].module.path) == parent(norm.path)]
        hosts = beside if any(i >= 0 for i in beside) else hosts
        own_size = [i for i in hosts if i < 0 or self.chain[i].out == norm.size]
        free = [i for i in own_size or hosts if i not in taken] or hosts
        if not free:
            raise _no_layer(norm)
        if len(free) > 1:
            raise self._two(norm, free)
        return free[0]

    def _two(self, norm: Module, hosts: Sequence[int]) -> AmbiguousError:
        a, b = (self.chain[i].module.path if i >= 0 else "the inputs" for i in hosts[:2])
        quoted = [name if name == "the inputs" else f"'{name}'" for name in (a, b)]
        return ambiguous(f"'{norm.path}' may belong to {quoted[0]} or to {quoted[1]}.")


def _no_layer(norm: Module) -> SpecError:
    return misfit(f"'{norm.path}' has {norm.size} units, which fits no layer before it.")


def _place_in_sequence(norm: Module, chain: Sequence[Layer]) -> int | None:
    """The layer just before the norm in a numbered sequence of both, if they stand in one."""
    if not norm.path.rpartition(".")[2].isdigit():
        return None
    earlier: list[int] = []
    later: list[int] = []
    for i, layer in enumerate(chain):
        path = layer.module.path
        if parent(path) == parent(norm.path) and path.rpartition(".")[2].isdigit():
            (earlier if stands_before(path, norm.path) else later).append(i)
    if earlier:
        return earlier[-1]
    return later[0] - 1 if later else None
