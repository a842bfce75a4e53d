"""Architectures as functions of their weights, one file each; `DESIGNS` lists them by kind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs.base import Design, Statistics, examples_of, reads_tokens
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.conv1d import Conv1d
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from deepalign_cli.models.designs.rnn import RNN
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.models.designs.transformer import Transformer
from deepalign_cli.spelling import british

DESIGNS: Mapping[str, type[Design]] = {
    "mlp": MLP, "cnn": CNN, "conv1d": Conv1d, "resnet": ResNet, "recurrent": RNN, "siren": Siren,
    "transformer": Transformer, "decoder": Decoder,
}  # fmt: skip


def design_of(config: Mapping[str, Any]) -> Design:
    """The design that a table describes, as `config_of` writes it.

    Raises:
        UsageError: the kind or an option is not known, or a value is not usable.
    """
    options = {british(k): tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "kind"}
    kind = str(config.get("kind"))
    if kind not in DESIGNS:
        raise UsageError(f"there is no design '{kind}'.", f"one of {', '.join(DESIGNS)}.")
    types = get_type_hints(DESIGNS[kind])
    try:
        for name, value in options.items():
            if name in types and not _is(types[name], value):
                raise ValueError(f"{name} = {repr(value)[:80]} is not allowed")
        return DESIGNS[kind](**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the design '{kind}' cannot have these options: {error}.") from None


def _is(kind: object, value: object) -> bool:
    """Whether a value is of an option's type; numbers are finite, and integers positive."""
    if kind is int:
        return type(value) is int and value >= 1
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    if kind == tuple[int, ...]:
        return isinstance(value, tuple) and all(_is(int, v) for v in value)
    return type(value) is kind


def config_of(design: Design) -> dict[str, Any]:
    """The design as a table for TOML or JSON."""
    kind = next(name for name, cls in DESIGNS.items() if type(design) is cls)
    options = dataclasses.asdict(design)  # type: ignore[call-overload]
    return {"kind": kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}}


__all__ = ["DESIGNS", "Design", "Statistics", "config_of", "design_of", "examples_of", "reads_tokens"]
