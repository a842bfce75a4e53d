"""What holds for every metanetwork: latents of an orbit are one, and features move with their units."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from deepalign_cli.errors import MismatchError
from deepalign_cli.models.designs.conv1d import Conv1d
from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.metanetworks import make_metanetwork, metanetwork_table
from deepalign_cli.network.neural_graphs import NeuralGraphsConfig
from deepalign_cli.network.patches import Patches
from deepalign_cli.network.scale_blocks import Mlp, Symmetrised, settle
from deepalign_cli.network.scalegmn import ScaleGmnConfig
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import PERMUTATION
from deepalign_cli.train.corpus import blueprint_of
from tests.network.builders import bound
from tests.network.gmn_builders import (
    DESIGNS,
    ENCODERS,
    NEURAL_GRAPHS,
    PROBED,
    metanetwork,
    networks,
    stack_of,
    symmetry_of_design,
)
from tests.symmetry.builders import seeded

EXACT = 1e-9
ONE_WAY = [(name, encoder) for name in ("siren", "cnn-relu") for encoder in ("fixed", "full")]
EVERY = ONE_WAY + [
    (name, encoder) for name in DESIGNS for encoder in ("both ways", "full both ways", "probes")
]
EVERY += [("cnn-relu", "patches"), ("cnn-tanh", "patches")]


def latent_gap(model: nn.Module, name: str, g: Element) -> tuple[float, float]:
    """How far latents are from those of moved networks, and how far two networks' are from each other."""
    symmetry, nets = symmetry_of_design(DESIGNS[name]), networks(DESIGNS[name])
    before, after = model(stack_of(nets)), model(stack_of([symmetry.apply(g, net) for net in nets]))
    return float((after - before).abs().max()), float((before[0] - before[1]).abs().max())


@pytest.mark.parametrize(("name", "encoder"), EVERY)
def test_an_orbit_has_one_latent(name: str, encoder: str) -> None:
    g = symmetry_of_design(DESIGNS[name]).random(seeded(1))
    gap, spread = latent_gap(metanetwork(name, encoder), name, g)
    assert gap < EXACT
    assert spread > 1e-3


@pytest.mark.parametrize(("name", "encoder"), EVERY)
def test_features_move_turn_and_stretch_with_their_units(name: str, encoder: str) -> None:
    symmetry, nets, model = (
        symmetry_of_design(DESIGNS[name]),
        networks(DESIGNS[name]),
        metanetwork(name, encoder),
    )
    g = symmetry.random(seeded(2))
    before = model.features(stack_of(nets))  # type: ignore[operator]
    after = model.features(stack_of([symmetry.apply(g, net) for net in nets]))  # type: ignore[operator]
    for group in symmetry.sizes:
        expected = before[group][:, g.perm[group]]
        if group in g.scale:
            expected = expected * g.scale[group][:, None]
        assert float((after[group] - expected).abs().max() / expected.abs().max()) < EXACT
        assert float((after[group] - before[group]).abs().max()) > 1e-3


@pytest.mark.parametrize("encoder", ["fixed", "full both ways", "probes"])
@pytest.mark.parametrize("name", ["mlp-relu", "siren", "cnn-tanh"])
def test_without_the_symmetrised_layer_the_orbit_falls_apart(name: str, encoder: str) -> None:
    model = metanetwork(name, encoder)
    for module in model.modules():
        if isinstance(module, Symmetrised):
            module.kind = PERMUTATION  # rho(x) alone
    gap, _ = latent_gap(model, name, symmetry_of_design(DESIGNS[name]).random(seeded(1)))
    assert gap > 1e-6


@pytest.mark.parametrize("encoder", ["neural graphs", "neural graphs with probes"])
@pytest.mark.parametrize("name", DESIGNS)
def test_neural_graphs_know_of_permutations_only(name: str, encoder: str) -> None:
    model, g = metanetwork(name, encoder), symmetry_of_design(DESIGNS[name]).random(seeded(1))
    moved, spread = latent_gap(model, name, Element(g.perm))
    assert moved < EXACT
    assert spread > 1e-3
    if g.scale:
        assert latent_gap(model, name, Element({}, g.scale))[0] > 1e-4


def test_networks_of_a_stack_do_not_mix() -> None:
    nets, model = networks(DESIGNS["cnn-relu"]), metanetwork("cnn-relu", "full both ways")
    alone = torch.cat([model(stack_of([net])) for net in nets])
    assert torch.allclose(model(stack_of(nets)), alone, rtol=0, atol=1e-12)


def test_patches_say_what_the_network_says_of_them() -> None:
    """In the middle of an image, where the padding of its convolutions is not seen."""
    design = replace(DESIGNS["cnn-tanh"], stride=2, size=15)  # type: ignore[type-var]
    (net,) = networks(design, 1)
    blueprint = Blueprint(symmetry_of_design(design))
    patches = Patches(blueprint, 3, 2, 1.0, tanh=True).double()
    x = patches.patches
    for layer in (1, 2, 3):
        w, b = net[f"conv{layer}.weight"], net[f"conv{layer}.bias"]
        x = torch.nn.functional.conv2d(x, w, b, stride=2).tanh()
    assert x.shape[2:] == (1, 1)
    answers = x.flatten(1) @ net["fc.weight"].T + net["fc.bias"]
    said = patches(stack_of([net]))[blueprint.outputs[0]]
    assert torch.allclose(said[0].T, answers, atol=1e-12)


def test_patches_are_for_chains_of_convolutions() -> None:
    design = Conv1d((4, 5))
    blueprint = blueprint_of(design, design.init(seeded(0)))
    with pytest.raises(ValueError, match="chains of two-dimensional convolutions"):
        Patches(blueprint, 3, 2, 1.0)


@pytest.mark.parametrize("table", [*ENCODERS.values(), NEURAL_GRAPHS, PROBED])
def test_a_table_makes_the_metanetwork_that_it_is_of(table: dict[str, object]) -> None:
    blueprint = Blueprint(symmetry_of_design(DESIGNS["siren"]))
    written = metanetwork_table(make_metanetwork(blueprint, table))
    assert table.items() <= written.items()
    assert metanetwork_table(make_metanetwork(blueprint, written)) == written


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 0},
        {"layers": -1},
        {"latent": -1},
        {"edges": "some"},
        {"probes": -1},
        {"frequency": 0.0},
        {"stride": 2},
    ],
)
def test_sizes_that_are_none_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScaleGmnConfig(**wrong)  # type: ignore[arg-type]


def test_sizes_of_neural_graphs_are_positive() -> None:
    with pytest.raises(ValueError, match="waves"):
        NeuralGraphsConfig(waves=0)


def test_a_settled_readout_says_uncorrelated_numbers_of_variance_one() -> None:
    x = torch.randn(400, 5, generator=seeded(1), dtype=torch.float64) * torch.tensor([1e3, 1, 1e-2, 1, 1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        readout = Mlp(5, 16, 3).double().requires_grad_(False)
    settle(readout, x + 7)
    said = readout(x + 7)
    assert float((torch.cov(said.T) - torch.eye(3)).abs().max()) < 0.05
    assert float(said.mean(0).abs().max()) < 1e-9


def test_norms_are_not_read() -> None:
    symmetry = bound(
        {"a__weight": (3, 2), "bn__weight": (3,), "b__weight": (1, 3)}, a__weight="k 2", bn__weight="k",
        b__weight="1 k",
    )  # fmt: skip
    with pytest.raises(MismatchError, match=r"'bn\.weight' belongs to a norm"):
        Blueprint(symmetry)
