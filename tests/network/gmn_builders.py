"""Architectures, metanetworks and stacked networks that the tests of autoencoders share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from deepalign_cli.models.designs import Design
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.network.autoencoder import Autoencoder, DecoderConfig
from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.metanetworks import make_metanetwork
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import seeded

Stack = dict[str, Tensor]
DESIGNS: Mapping[str, Design] = {
    "mlp-relu": MLP((4, 5, 6, 3)),
    "mlp-tanh": MLP((4, 5, 6, 3), "tanh"),
    "mlp-gelu": MLP((4, 5, 6, 3), "gelu"),
    "siren": Siren((2, 6, 5, 1), 5.0),
    "cnn-relu": CNN((1, 4, 5, 3), 8, average=True, pools=()),
    "cnn-tanh": CNN((1, 4, 5, 3), 8, average=True, pools=(), activation="tanh"),
}
_MARKS = {"relu": ("+", "-"), "tanh": ("~", "~"), "sin": ("~", "~"), "gelu": ("", "")}
ENCODERS = {
    "fixed": {"encoder": "scalegmn", "channels": 8, "layers": 2, "latent": 6},
    "both ways": {"encoder": "scalegmn", "channels": 8, "layers": 2, "latent": 6, "both_ways": True},
    "full": {"encoder": "scalegmn", "channels": 8, "layers": 2, "latent": 6, "edges": "full"},
    "full both ways": {
        "encoder": "scalegmn", "channels": 8, "layers": 2, "latent": 6, "edges": "full", "both_ways": True,
    },
    "probes": {"encoder": "scalegmn", "channels": 8, "layers": 1, "latent": 6, "probes": 7, "frequency": 5.0},
    "patches": {
        "encoder": "scalegmn", "channels": 8, "layers": 1, "latent": 6, "probes": 7, "stride": 2,
        "tanh": True,
    },
}  # fmt: skip
NEURAL_GRAPHS = {"encoder": "neural_graphs", "channels": 8, "layers": 2, "latent": 6, "waves": 3}
PROBED = NEURAL_GRAPHS | {"probes": 7, "frequency": 5.0}


def spec_of_design(design: Design, names: Mapping[str, str] | None = None) -> Spec:
    """The spec of a chain of layers with all that its activation allows, by other names if they are given."""
    activation = getattr(design, "activation", "sin")
    up, down = _MARKS[activation]
    weights = [n for n in design.init(seeded(0)) if n.endswith("weight")]
    lines, before = [], ""
    for i, name in enumerate(weights):
        shape, last = design.init(seeded(0))[name].shape, i == len(weights) - 1
        target = str(shape[0]) if last else f"{up}g{i}"
        kernel = " ".join(map(str, shape[2:]))
        lines.append((name, f"{target} {before or shape[1]} {kernel}"))
        if not last:
            lines.append((name.replace("weight", "bias"), target))
        before = f"{down}g{i}"
    named = names or {}
    text = "\n".join(f'"{named.get(name, name)}" = "{axes.strip()}"' for name, axes in lines)
    return Spec.parse(f"[axes]\n{text}\n").with_kinds(
        scale=activation == "relu", sign=activation in ("tanh", "sin")
    )


def symmetry_of_design(design: Design, names: Mapping[str, str] | None = None) -> Symmetry:
    shapes = {n: tuple(w.shape) for n, w in design.init(seeded(0)).items()}
    return Symmetry(spec_of_design(design, names), {(names or {}).get(n, n): s for n, s in shapes.items()})


def networks(design: Design, count: int = 3, seed: int = 0) -> list[Stack]:
    """Networks with generic weights in float64."""
    rng = seeded(seed)
    shapes = design.init(rng)
    return [
        {n: torch.randn(w.shape, generator=rng, dtype=torch.float64) for n, w in shapes.items()}
        for _ in range(count)
    ]


def stack_of(nets: list[Stack]) -> Stack:
    return {name: torch.stack([net[name] for net in nets]) for name in nets[0]}


def metanetwork(name: str, encoder: str) -> torch.nn.Module:
    """A fresh metanetwork for a design, in float64."""
    tables = {**ENCODERS, "neural graphs": NEURAL_GRAPHS, "neural graphs with probes": PROBED}
    table = tables[encoder]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = make_metanetwork(Blueprint(symmetry_of_design(DESIGNS[name])), table)
    return made.double().requires_grad_(False)  # type: ignore[no-any-return]


@cache
def autoencoder(name: str = "siren", encoder: str = "fixed") -> Autoencoder:
    """A fresh autoencoder for a design, in float64."""
    design = DESIGNS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        blueprint = Blueprint(symmetry_of_design(design))
        model = Autoencoder(blueprint, make_metanetwork(blueprint, ENCODERS[encoder]), DecoderConfig((8,)))
    return model.double().requires_grad_(False).eval()
