"""Networks of known families, from the names and shapes of their tensors, and options."""

from __future__ import annotations

from collections.abc import Mapping

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import AmbiguousError, SpecError
from deepalign_cli.models.chain_network import read_chain
from deepalign_cli.models.designs.base import ACTIVATIONS
from deepalign_cli.models.residual_network import read_residual
from deepalign_cli.models.values import OWN_CODE, ReadNetwork
from deepalign_cli.symmetry.families import chain, encoder_blocks, residual, residual_parts
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.resolve import shapes_of
from deepalign_cli.symmetry.tensor_names import common_prefix

_ACTIVATION = "activation"  # a key in the metadata, too


def read_family(checkpoint: Checkpoint, options: Mapping[str, str]) -> ReadNetwork:
    """A network as a `Run`, what it is in words, and its input's shape where that is known.

    MLPs of any names, SIRENs, plain CNNs, VGG, and residual networks. The options say what shapes do not;
    an activation may also be in the metadata, under that word.

    Raises:
        SpecError: the family is not known, or needs an option; AmbiguousError: two readings fit.
        UsageError: an option is not known or not usable.
    """
    layout = Layout(shapes_of(checkpoint), ordered=checkpoint.ordered)
    stored = checkpoint.metadata.get(_ACTIVATION, "")
    values = {**({_ACTIVATION: stored} if stored in ACTIVATIONS else {}), **options}
    try:
        network = None if encoder_blocks.match(layout) else _read(layout, values)
    except AmbiguousError as error:
        raise AmbiguousError(error.message, OWN_CODE) from None
    if network is None:
        raise SpecError(
            f"the architecture of '{checkpoint.path}' cannot be recognised from its tensor names and shapes.",
            OWN_CODE,
        )
    run, says, shape = network
    return run, f"{says}, from names and shapes", shape


def _read(layout: Layout, values: Mapping[str, str]) -> ReadNetwork | None:
    """The network of the first family that matches, which also checks that widths and norms fit."""
    prefix = common_prefix(list(layout.shapes))
    if residual.match(layout) and (net := residual_parts.read(layout.within(prefix))):
        return read_residual(net, prefix, values)
    if chain.match(layout) and (layers := chain.read(layout)):
        return read_chain(layers, values)
    return None
