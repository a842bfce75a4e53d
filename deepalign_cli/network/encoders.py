"""The encoders by name, and what each is configured by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from deepalign_cli.network.dws import Dws, DwsConfig
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.universal import Features, Universal, UniversalConfig
from deepalign_cli.symmetry.symmetry import Weights

ENCODERS: Mapping[str, tuple[type[Any], type[Any]]] = {
    "universal": (UniversalConfig, Universal),
    "dws": (DwsConfig, Dws),
}


class Encoder(Protocol):
    """A stack of networks (weights with a leading batch axis) -> features of every unit."""

    config: Any

    def __call__(self, graph: Graph, weights: Weights, seeds: list[int]) -> Features: ...


def make_encoder(table: Mapping[str, Any]) -> Any:
    """The encoder that a table `{encoder = NAME, ...sizes}` describes, freshly initialised.

    Raises:
        KeyError, TypeError, ValueError: the name or a size is not usable.
    """
    if not isinstance(table, Mapping):
        raise TypeError("the network's configuration is no table")
    sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items() if k != "encoder"}
    config, encoder = ENCODERS[table.get("encoder", "universal")]
    return encoder(config(**sizes))


def encoder_table(encoder: Any) -> dict[str, Any]:
    """The table that `make_encoder` makes the same kind of encoder from."""
    name = next(n for n, (_, made) in ENCODERS.items() if type(encoder) is made)
    return {"encoder": name, **dataclasses.asdict(encoder.config)}
