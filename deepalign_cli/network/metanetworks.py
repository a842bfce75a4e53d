"""The encoders of autoencoders by name, and what each is configured by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.neural_graphs import NeuralGraphs, NeuralGraphsConfig
from deepalign_cli.network.scalegmn import ScaleGmn, ScaleGmnConfig

METANETWORKS: Mapping[str, tuple[type[Any], type[nn.Module]]] = {
    "scalegmn": (ScaleGmnConfig, ScaleGmn),
    "neural_graphs": (NeuralGraphsConfig, NeuralGraphs),
}


def make_metanetwork(blueprint: Blueprint, table: Mapping[str, Any]) -> Any:
    """The metanetwork that `{encoder = NAME, ...sizes}` describes for an architecture, freshly initialised.

    Raises:
        KeyError, TypeError, ValueError: the name or a size is not usable.
    """
    config, encoder = METANETWORKS[table.get("encoder", "scalegmn")]
    return encoder(blueprint, config(**{key: value for key, value in table.items() if key != "encoder"}))


def metanetwork_table(encoder: Any) -> dict[str, Any]:
    """The table that `make_metanetwork` makes the same kind of metanetwork from."""
    name = next(n for n, (_, made) in METANETWORKS.items() if type(encoder) is made)
    return {"encoder": name, **dataclasses.asdict(encoder.config)}
