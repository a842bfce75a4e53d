"""The autoencoder for networks of an architecture: one that is named, or the first shipped one that fits."""

from __future__ import annotations

from deepalign_cli.errors import MismatchError
from deepalign_cli.network.autoencoder import Autoencoder
from deepalign_cli.network.pretrained import shipped_networks
from deepalign_cli.network.saved_autoencoder import is_autoencoder, load_autoencoder
from deepalign_cli.symmetry.symmetry import Symmetry


def fitting_autoencoder(symmetry: Symmetry, reference: str | None = None) -> Autoencoder:
    """The autoencoder of networks with this symmetry; `reference` is a name, a path, or hf://org/repo/file.

    Raises:
        UsageError: there is none of that name. CheckpointError: it is no autoencoder.
        MismatchError: it is not for such networks, or none that comes with deepalign is.
    """
    if reference is None:
        return _shipped(symmetry)
    model = load_autoencoder(reference)
    model.check_fits(symmetry)
    return model


def _shipped(symmetry: Symmetry) -> Autoencoder:
    models = [load_autoencoder(name) for name, path in shipped_networks().items() if is_autoencoder(path)]
    reason = "none comes with it"
    for model in models:
        try:
            model.check_fits(symmetry)
        except MismatchError as error:
            reason = error.message.rstrip(".")
        else:
            return model
    near = [model for model in models if model.blueprint.is_shaped_as(symmetry)]
    if near:
        read = ", or ".join(f"{model.blueprint.activations} ({model.name})" for model in near)
        raise MismatchError(
            f"autoencoders of this architecture are for {read}, which this network is not known to have.",
            "if it has, say so by --activation, or by the code, --model, which shows signs of convolutions "
            "(no max-pool); if it has another activation, use another method.",
        )
    known = ", ".join(str(model.blueprint) for model in models[:-1])
    raise MismatchError(
        f"no autoencoder that comes with deepalign reads these networks: {reason}"
        f"{f'; others are for {known}' if known else ''}.",
        "name another, --autoencoder FILE (`deepalign train` makes them), or use another method.",
    )
