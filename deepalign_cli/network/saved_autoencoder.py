"""An autoencoder as a safetensors file: its weights, its configuration and its architecture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from deepalign_cli.checkpoint import Checkpoint, Entry, open_checkpoint, write_safetensors
from deepalign_cli.errors import CheckpointError, DeepalignError, one_line
from deepalign_cli.network.autoencoder import Autoencoder, DecoderConfig
from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.metanetworks import make_metanetwork, metanetwork_table
from deepalign_cli.network.pretrained import network_name, resolve_network
from deepalign_cli.symmetry.spec import format_spec, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry

FORMAT = "1"
AUTOENCODER_KEY = "deepalign.autoencoder"
_FACT = "deepalign.fact."
_MOST_TENSORS, _MOST_RANK = 1000, 8
_HINT = "`deepalign train` writes autoencoders: docs/training.md."


def save_autoencoder(
    path: Path, model: Autoencoder, facts: Mapping[str, str] | None = None, *, force: bool = False
) -> None:
    """Write an autoencoder; `facts` go into the metadata.

    Raises:
        UsageError: the file exists, without `force`. OutputError: it cannot be written.
    """
    tensors = {name: w.detach().float().cpu().contiguous() for name, w in model.state_dict().items()}
    symmetry = model.blueprint.symmetry
    metadata = {
        AUTOENCODER_KEY: FORMAT,
        "deepalign.config": json.dumps(metanetwork_table(model.encoder)),
        "deepalign.decoder": json.dumps(list(model.config.hidden)),
        "deepalign.architecture": format_spec(symmetry.spec),
        "deepalign.shapes": json.dumps({name: list(shape) for name, shape in symmetry.shapes.items()}),
        **{_FACT + key: value for key, value in {**model.facts, **(facts or {})}.items()},
    }
    entries = [Entry(name, "F32", tuple(w.shape)) for name, w in tensors.items()]
    write_safetensors(path, entries, tensors.__getitem__, metadata, force=force)


def load_autoencoder(reference: str) -> Autoencoder:
    """The autoencoder that a name, a path or hf://org/repo/file names, ready to be used.

    Raises:
        UsageError: there is none. CheckpointError: it could not be fetched, or is no autoencoder.
    """
    model = read_autoencoder(resolve_network(reference))
    model.name = network_name(reference)
    return model


def read_autoencoder(path: Path) -> Autoencoder:
    """Read an autoencoder's file.

    Raises:
        UsageError: there is no such file. CheckpointError: it is no autoencoder, or of another format.
    """
    file = open_checkpoint(path)
    if file.metadata.get(AUTOENCODER_KEY) != FORMAT:
        raise CheckpointError(f"'{path}' is not an autoencoder that this version reads.", _HINT)
    try:
        model = _built(file)
        model.load_state_dict({name: file[name].clone() for name in file}, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, DeepalignError) as error:
        problem = error.message if isinstance(error, DeepalignError) else one_line(error)[:200]
        raise CheckpointError(f"'{path}' is not a whole autoencoder: {problem.rstrip('.')}.", _HINT) from None
    if not all(bool(w.isfinite().all()) for w in model.state_dict().values()):
        raise CheckpointError(f"the autoencoder '{path}' holds NaN or Inf.", _HINT)
    model.facts = {k.removeprefix(_FACT): v for k, v in file.metadata.items() if k.startswith(_FACT)}
    return model.requires_grad_(False).eval()


def is_autoencoder(path: Path) -> bool:
    """Whether a safetensors file says that it is an autoencoder. Raises DeepalignError where it is broken."""
    return AUTOENCODER_KEY in open_checkpoint(path).metadata


def _built(file: Checkpoint) -> Autoencoder:
    """The autoencoder of a file, with whatever weights."""
    table, hidden = (
        json.loads(file.metadata["deepalign.config"]),
        json.loads(file.metadata["deepalign.decoder"]),
    )
    shapes = json.loads(file.metadata["deepalign.shapes"])
    _check_size(file, table, hidden, shapes)
    spec = parse_spec(file.metadata["deepalign.architecture"], source="the autoencoder")
    blueprint = Blueprint(Symmetry(spec, {name: tuple(shape) for name, shape in shapes.items()}))
    with torch.random.fork_rng(devices=[]):
        return Autoencoder(blueprint, make_metanetwork(blueprint, table), DecoderConfig(tuple(hidden)))


def _check_size(file: Checkpoint, table: Any, hidden: Any, shapes: Any) -> None:
    """Check that a configuration asks for no more than the file holds, before memory is taken.

    Raises:
        ValueError: it asks for more, or is not of the right form.
    """
    if not isinstance(table, dict) or not isinstance(hidden, list) or not isinstance(shapes, dict):
        raise ValueError("its configuration is no table")
    if len(shapes) > _MOST_TENSORS or not all(_is_shape(shape) for shape in shapes.values()):
        raise ValueError("its shapes are not lists of positive integers")
    held = sum(math.prod(info.shape) for info in file.infos.values())
    numbers = {key: table.get(key, 1) for key in ("channels", "layers", "latent", "waves")}
    if not all(type(n) is int and n >= 1 for n in (*numbers.values(), *hidden)):
        raise ValueError("a size of its configuration is no positive integer")
    written = sum(math.prod(shape) for shape in shapes.values())
    widths = [numbers["latent"], *hidden, written]
    asked = [a * b for a, b in pairwise(widths)]
    asked += [numbers["channels"] ** 2 * numbers["layers"], numbers["channels"] * numbers["waves"]]
    asked += [numbers["channels"] * max((max(shape, default=1) for shape in shapes.values()), default=1)]
    if len(hidden) > held or max(asked) > held:
        raise ValueError("its configuration asks for more than the file holds")


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list) and len(shape) <= _MOST_RANK and all(type(n) is int and n >= 1 for n in shape)
    )
