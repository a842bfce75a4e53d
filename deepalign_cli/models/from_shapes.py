"""Networks of known families, from the names and shapes of their tensors, and options."""

from __future__ import annotations

from collections.abc import Mapping

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import AmbiguousError, SpecError
from deepalign_cli.models.chain_network import read_chain
from deepalign_cli.models.designs.base import ACTIVATIONS
from deepalign_cli.models.residual_network import read_residual
from deepalign_cli.models.run import Run
from deepalign_cli.models.values import OWN_CODE
from deepalign_cli.symmetry.families import chain, encoder_blocks, residual
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.resolve import shapes_of
from deepalign_cli.symmetry.tensor_names import common_prefix

_ACTIVATION = "activation"  # a key in the metadata, too


def read_family(
    checkpoint: Checkpoint, options: Mapping[str, str]
) -> tuple[Run, str, tuple[int, ...] | None]:
    """A network as a `Run`, what it is in words, and its input's shape where that is known.

    MLPs of any names, SIRENs, plain CNNs, VGG, and residual networks. What shapes do not tell is in the
    options; an activation may also be in the metadata, under that word.

    Raises:
        SpecError: the family is not known, or needs an option; AmbiguousError: two readings fit.
        UsageError: an option is not known or not usable.
    """
    layout = Layout(shapes_of(checkpoint), ordered=checkpoint.ordered)
    stored = checkpoint.metadata.get(_ACTIVATION, "")
    values = {**({_ACTIVATION: stored} if stored in ACTIVATIONS else {}), **options}
    try:
        found = None if encoder_blocks.match(layout) else _residual(layout, values) or _chain(layout, values)
    except AmbiguousError as error:
        raise AmbiguousError(error.message, OWN_CODE) from None
    if found is None:
        raise SpecError(f"what '{checkpoint.path}' computes is not told by its names and shapes.", OWN_CODE)
    run, says, shape = found
    return run, f"{says}, from names and shapes", shape


def _residual(layout: Layout, values: Mapping[str, str]) -> tuple[Run, str, tuple[int, ...] | None] | None:
    if residual.match(layout) is None:  # which also checks that widths fit
        return None
    prefix = common_prefix(list(layout.shapes))
    net = residual.read(layout.within(prefix))
    return read_residual(net, prefix, values) if net else None


def _chain(layout: Layout, values: Mapping[str, str]) -> tuple[Run, str, tuple[int, ...] | None] | None:
    if chain.match(layout) is None:  # which also checks the norms
        return None
    found = chain.read(layout)
    return read_chain(found, values) if found else None
