"""Plain chains read from names and shapes: MLPs of any names, plain CNNs, VGG.

Linear and convolution layers in one line, with norms between them. The order comes from numbers in
the names and from the shapes; where these leave two readings, neither is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepalign_cli.errors import AmbiguousError
from deepalign_cli.symmetry.draft import Draft, ambiguous, refuse_group_norm
from deepalign_cli.symmetry.families.joins import assumed, follows_words
from deepalign_cli.symmetry.families.layer import Layer
from deepalign_cli.symmetry.families.norms import hosts_of
from deepalign_cli.symmetry.families.words import has_word
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.order import SearchBudgetError, chain_orders
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import MODULE_ROLES, group_name

_MOST = 24  # orders of which words may leave one


@dataclass(frozen=True)
class Chain:
    """Layers in order, and norms; `hosts` has the number of each norm's layer, None for the inputs."""

    layers: tuple[Layer, ...]
    norms: tuple[Module, ...]
    hosts: Mapping[str, int | None]


def match(layout: Layout) -> Spec | None:
    """The spec of a plain chain, or None if this is not one.

    Raises:
        AmbiguousError: two readings fit.
    """
    chain = read(layout)
    if chain is None:
        return None
    return _spec_of(chain)


def read(layout: Layout) -> Chain | None:
    """The layers of a plain chain in their order, or None if this is not one.

    Raises:
        AmbiguousError: two readings fit.
    """
    modules = list(layout.modules().values())
    if not modules or any(not _is_plain(m) for m in modules):
        return None
    matrices = [m for m in modules if m.rank >= 2]
    readings = [_orders(matrices, transposed) for transposed in (False, True)]
    if all(m.strict for m in matrices) and readings[0]:
        readings[1] = []  # a role spelt as PyTorch spells it holds (out, in)
    orders = [*readings[0], *readings[1]]
    if not orders:
        return None
    if len(orders) > 1:
        orders = [order for order in orders if follows_words(order)] or orders
    if len(orders) > 1:
        raise _two_orders(orders)
    norms = [m for m in modules if m.is_norm]
    return Chain(tuple(orders[0]), tuple(norms), hosts_of(norms, orders[0]))


def _is_plain(module: Module) -> bool:
    if not set(module.shapes) <= set(MODULE_ROLES) or any(0 in shape for shape in module.shapes.values()):
        return False
    return module.rank >= 2 or module.is_norm


def _orders(matrices: list[Module], transposed: bool) -> list[list[Layer]]:
    layers = [Layer(m, transposed) for m in matrices]
    if not layers or not all(layer.fits_bias and not (transposed and layer.is_conv) for layer in layers):
        return []
    paths = [m.path for m in matrices]
    for contiguous in (True, False):
        try:
            orders = chain_orders(
                paths, lambda i, j: layers[i].feeds(layers[j]), contiguous=contiguous, limit=_MOST
            )
        except SearchBudgetError:
            raise ambiguous("the shapes and names allow too many orders of the layers to try.") from None
        if orders:
            return [[layers[i] for i in order] for order in orders]
    return []


def _two_orders(orders: list[list[Layer]]) -> AmbiguousError:
    first, second = orders[0], orders[1]
    if first[0].transposed != second[0].transposed:
        return ambiguous("the weights can be read as (out, in) or as (in, out), and both fit all shapes.")
    i = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a.module.path != b.module.path)
    return ambiguous(
        f"two orders of the layers fit the shapes: '{first[i].module.path}' or '{second[i].module.path}' "
        f"may be layer {i + 1} of {len(first)}."
    )


def _spec_of(chain: Chain) -> Spec:
    conv = any(layer.is_conv for layer in chain.layers)
    draft = Draft("chain of convolution and linear layers" if conv else "chain of linear layers")
    write(draft, chain)
    draft.assumptions += assumed(chain.layers, chain.norms)
    return draft.spec()


def write(draft: Draft, chain: Chain, source: str = "", target: str = "") -> None:
    """Write the layers of a chain, and their norms.

    `source` is the axis that the first layer reads and `target` the one that the last writes, where these
    are not labelled.
    """
    layers, hosts = list(chain.layers), chain.hosts
    axes = _output_axes(layers)
    axes = [target if target and axis is axes[-1] else axis for axis in axes]
    for number, layer in enumerate(layers):
        into = _input_axis(number, layers, axes)
        into = source if source and not number else into
        marked = number not in hosts.values()
        draft.linear(layer.module, axes[number], into, marked=marked, transposed=layer.transposed)
    inner = axes if target else axes[:-1]
    draft.pooled |= {
        axis for axis, layer in zip(axes, layers, strict=True) if layer.is_conv and axis in inner
    }
    for norm in chain.norms:
        _write_norm(draft, norm, hosts[norm.path], layers, axes)
    draft.only_permute(_unscalable(layers, list(chain.norms), hosts, axes))


def _unscalable(
    chain: list[Layer], norms: list[Module], hosts: Mapping[str, int | None], axes: list[str]
) -> set[str]:
    """Groups that no scale may touch: several norms, a PReLU-like gain without shift, depthwise kernels."""
    numbers = [host for host in hosts.values() if host is not None]
    twice = {axes[i] for i in numbers if numbers.count(i) > 1}
    shiftless = {axes[i] for n in norms if "bias" not in n.shapes and (i := hosts[n.path]) is not None}
    return twice | shiftless | {axis for axis in axes if axes.count(axis) > 1}


def _output_axes(chain: list[Layer]) -> list[str]:
    axes: list[str] = []
    for number, layer in enumerate(chain):
        if number and layer.depthwise_after(chain[number - 1]):
            axes.append(axes[-1])
        elif number == len(chain) - 1:
            axes.append(str(layer.out))
        else:
            axes.append(group_name(layer.module.path))
    return axes


def _input_axis(number: int, chain: list[Layer], axes: list[str]) -> str:
    layer = chain[number]
    if number == 0 or layer.depthwise_after(chain[number - 1]):
        return str(layer.into)
    return _times(axes[number - 1], layer.into // chain[number - 1].out)


def _write_norm(draft: Draft, norm: Module, host: int | None, chain: list[Layer], axes: list[str]) -> None:
    if host is None:
        return  # a norm over the labelled inputs: nothing moves
    if chain[host].is_conv or has_word(norm.path, ("gn", "group")):
        refuse_group_norm(norm)
    elif "bias" in norm.shapes and not norm.has_statistics and not has_word(norm.path, ("ln", "layer")):
        draft.assumptions.append(
            f"'{norm.path}' is assumed to be a LayerNorm over all units, not a GroupNorm"
        )
    draft.norm(norm, _times(axes[host], norm.size // chain[host].out))


def _times(axis: str, entries: int) -> str:
    """The axis that holds so many entries for each of the group's units."""
    return axis if entries == 1 else f"{axis}*{entries}"
