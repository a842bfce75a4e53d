"""An aligner as a safetensors file: its weights, its configuration, and a format version."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint, Entry, open_checkpoint, write_safetensors
from deepalign_cli.errors import CheckpointError
from deepalign_cli.network.encoders import encoder_table, make_encoder
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.refiner import Refiner, RefinerConfig

FORMAT = "1"
NETWORK_KEY = "deepalign.network"
_MOST_SIZES = 1000
_HINT = "`--network universal-v1` is the one that comes with deepalign."


def save_network(
    path: Path, model: DeepAlign, facts: Mapping[str, str] | None = None, *, force: bool = False
) -> None:
    """Write an aligner; `facts` go into the metadata.

    Raises:
        UsageError: the file exists, without `force`. OutputError: it cannot be written.
    """
    tensors = {name: w.detach().float().contiguous() for name, w in model.state_dict().items()}
    metadata = {
        NETWORK_KEY: FORMAT,
        "deepalign.config": json.dumps(encoder_table(model.encoder)),
        **(
            {"deepalign.refiner": json.dumps(asdict(model.refiner.config))}
            if model.refiner is not None
            else {}
        ),
        **{f"deepalign.{key}": value for key, value in (facts or {}).items()},
    }
    entries = [Entry(name, "F32", tuple(w.shape)) for name, w in tensors.items()]
    write_safetensors(path, entries, tensors.__getitem__, metadata, force=force)


def load_network(path: Path) -> DeepAlign:
    """Read an aligner back, ready to be used.

    Raises:
        UsageError: there is no such file. CheckpointError: it is no aligner, or of another format.
    """
    file = open_checkpoint(path)
    if "deepalign.autoencoder" in file.metadata:
        raise CheckpointError(f"'{path}' is an autoencoder, and aligns nothing by itself.", _HINT)
    if file.metadata.get(NETWORK_KEY) != FORMAT:
        raise CheckpointError(f"'{path}' is not an aligner that this version reads.", _HINT)
    try:
        table = json.loads(file.metadata["deepalign.config"])
        _check_size(file, table)
        _check_size(file, json.loads(file.metadata.get("deepalign.refiner", "{}")))
        with torch.random.fork_rng(devices=[]):  # on the meta device half of torch's compiler is imported
            model = DeepAlign(make_encoder(table), _refiner(file.metadata.get("deepalign.refiner")))
        model.load_state_dict(_tensors(file), assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        problem = " ".join(str(error).split())
        raise CheckpointError(f"'{path}' is not a whole aligner: {problem}.", _HINT) from None
    if not all(bool(w.isfinite().all()) for w in model.state_dict().values()):
        raise CheckpointError(f"the aligner '{path}' holds NaN or Inf.", _HINT)
    return model.requires_grad_(False).eval()


def _check_size(file: Checkpoint, table: Any) -> None:
    """Check that a configuration asks for no more than the file holds, before memory is taken.

    The largest tensor of a layer has the product of two sizes; in every aligner that `save_network` wrote,
    that product times the number of layers is a small part of all entries.

    Raises:
        ValueError: it asks for more.
    """
    if not isinstance(table, dict):
        raise ValueError("its configuration is no table")
    held = sum(math.prod(info.shape) for info in file.infos.values())
    listed = [x for v in table.values() for x in (v if isinstance(v, list) else [v])]
    sizes = sorted((x for x in listed if isinstance(x, int)), reverse=True)
    layers = max((table.get(key, 1) for key in ("sweeps", "layers", "rounds")), default=1)
    if len(listed) > _MOST_SIZES or math.prod(sizes[:2]) * layers > held:
        raise ValueError("its configuration asks for more than the file holds")


def _refiner(text: str | None) -> Refiner | None:
    if not text:
        return None
    table = json.loads(text)
    if table.pop("hidden", 0):  # of earlier versions
        raise ValueError("its refiner has hidden channels, which this version does not read")
    return Refiner(RefinerConfig(**table))


def _tensors(file: Checkpoint) -> dict[str, Tensor]:
    """The tensors of an aligner, without those that earlier versions wrote beside a refiner's weights.

    Raises:
        ValueError: one of these is not zero, so that the refiner does what this version cannot.
    """
    unused = [name for name in file if re.fullmatch(r"refiner\.rounds\.\d+\.trust\.(weight|bias)", name)]
    for name in unused:
        if file[name].any():
            raise ValueError(f"'{name}' is not zero, and this version does not read it")
    return {name: file[name].clone() for name in file if name not in unused}
