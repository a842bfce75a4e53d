"""The paper's encoder on chains: laws, recovery, files, training, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deepalign_cli.assignment import assign
from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.network.dws import Dws, DwsConfig, chain_of
from deepalign_cli.network.encoders import encoder_table, make_encoder
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.saved import load_network, save_network
from deepalign_cli.network.similarity import similarities
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.train.loop import read_plan, start, train
from deepalign_cli.train.plans import Schedule, family_plans
from deepalign_cli.train.pool import PoolEntry, graph_of
from deepalign_cli.train.recipes import read_recipe
from deepalign_cli.train.tasks import Examples, Task
from deepalign_cli.train.zoo_training import train_family
from tests import nets
from tests.symmetry.builders import CASES, case, family_spec, shapes_of

SIZES = (12, 16, 20, 16, 5)
CONFIG = DwsConfig(SIZES, channels=8, layers=4, out=16, reduced=4)
CHAINS = {"mlp", "mlp_leaky_relu", "mlp_gelu", "named_mlp", "tanh_mlp", "siren"}
RECIPES = Path(__file__).parents[2] / "pretrained"


def chain(sizes: tuple[int, ...] = SIZES) -> Graph:
    module = nets.mlp(sizes)
    return Graph(Symmetry(family_spec(module), shapes_of(module.state_dict())))


def network(seed: int, sizes: tuple[int, ...] = SIZES) -> dict[str, Tensor]:
    module = nets.randomise_(nets.mlp(sizes).double(), torch.Generator().manual_seed(seed))
    return {name: w.detach() for name, w in module.state_dict().items()}


def stack(*networks: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.stack([net[name] for net in networks]) for name in networks[0]}


def encoder(config: DwsConfig = CONFIG) -> Dws:
    return Dws(config).double()


# --- what equivariance demands ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [SIZES, (7, 9, 3), (1, 6, 1, 4, 2)])
def test_features_move_with_their_units(sizes: tuple[int, ...]) -> None:
    graph, net = chain(sizes), network(1, sizes)
    g = graph.symmetry.random(torch.Generator().manual_seed(2))
    model = encoder(DwsConfig(sizes, channels=6, out=8, reduced=3))
    before = model(graph, stack(net), [0])
    after = model(graph, stack(graph.symmetry.apply(g, net)), [0])
    assert list(before) == list(chain_of(graph).groups)
    for group, x in before.items():
        torch.testing.assert_close(after[group], x[:, g.perm[group]], rtol=1e-9, atol=1e-9)
        assert x.shape == (1, graph.symmetry.sizes[group], 8)
        if x.shape[1] > 1:
            assert (x[0].std(0) > 1e-3).any()  # else the law would be empty


def test_moving_one_side_moves_rows_and_the_other_side_columns() -> None:
    graph, a, b = chain(), network(1), network(2)
    rng = torch.Generator().manual_seed(3)
    g, h = graph.symmetry.random(rng), graph.symmetry.random(rng)
    model = encoder()
    features = model(graph, stack(a, b, graph.symmetry.apply(g, a), graph.symmetry.apply(h, b)), [0])
    a_, b_, ga, hb = ({n: f[i : i + 1] for n, f in features.items()} for i in range(4))
    plain, moved, swapped = similarities(a_, b_), similarities(ga, hb), similarities(b_, a_)
    for group, s in plain.items():
        expected = s[:, g.perm[group]][:, :, h.perm[group]]
        torch.testing.assert_close(moved[group], expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(swapped[group], s.mT, rtol=1e-9, atol=1e-9)


def test_an_untrained_network_recovers_a_planted_permutation() -> None:
    graph, net = chain(), network(1)
    g = graph.symmetry.random(torch.Generator().manual_seed(4))
    model = DeepAlign(encoder())
    a, b = (model.encode(graph, stack(w), [0]) for w in (net, graph.symmetry.apply(g, net)))
    for group, s in similarities(a, b).items():
        assert torch.equal(assign(s[0]), g.inverse().perm[group])


def test_labelled_ends_are_not_exchangeable() -> None:
    graph, net = chain(), network(1)
    first, *_, last = chain_of(graph).edges
    model = encoder()
    plain = model(graph, stack(net), [0])
    for name, dim in ((first.cell.name, 1), (last.cell.name, 0)):
        turned = model(graph, stack({**net, name: net[name].flip(dim)}), [0])
        assert any((turned[g] - plain[g]).abs().max() > 1e-3 for g in plain)


@pytest.mark.parametrize(
    "name", ["0.weight", "2.weight", "4.weight", "6.weight", "0.bias", "2.bias", "4.bias"]
)
def test_every_tensor_is_read_and_its_scale_is_not(name: str) -> None:
    graph, net, other, model = chain(), network(1), network(2), encoder()
    plain = model(graph, stack(net), [0])
    scaled = model(graph, stack({**net, name: 3 * net[name]}), [0])
    changed = model(graph, stack({**net, name: other[name]}), [0])
    for group, x in plain.items():
        torch.testing.assert_close(scaled[group], x, rtol=1e-9, atol=1e-9)
    assert any((changed[g] - plain[g]).abs().max() > 1e-3 for g in plain)


# --- batches ------------------------------------------------------------------------------------------------


def test_networks_of_a_batch_do_not_mix() -> None:
    graph, model = chain(), encoder()
    both = model(graph, stack(network(1), network(2)), [7])
    for i in range(2):
        alone = model(graph, stack(network(1 + i)), [7])
        for group, x in alone.items():
            torch.testing.assert_close(both[group][i : i + 1], x, rtol=1e-9, atol=1e-9)


def test_seeds_only_lengthen_the_batch_axis() -> None:
    graph, model = chain(), encoder()
    one, three = model(graph, stack(network(1)), [0]), model(graph, stack(network(1)), [5, 6, 7])
    for group, x in three.items():
        assert len(x) == 3
        assert torch.equal(x, one[group].expand_as(x))


def test_biases_of_zero_are_read_without_nan() -> None:
    net = {n: torch.zeros_like(w) if w.ndim == 1 else w for n, w in network(1).items()}
    found = encoder()(chain(), stack(net), [0])
    assert all(x.isfinite().all() for x in found.values())


# --- files and configurations -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_makes_the_same_kind_of_encoder() -> None:
    made = make_encoder({"encoder": "dws", "sizes": list(SIZES), "channels": 8, "out": 16, "reduced": 4})
    assert made.config == CONFIG
    assert make_encoder(encoder_table(made)).config == CONFIG


def test_a_saved_aligner_predicts_the_same(tmp_path: Path) -> None:
    model = DeepAlign(Dws(CONFIG))
    save_network(tmp_path / "a.safetensors", model)
    read = load_network(tmp_path / "a.safetensors")
    weights = {n: w.float() for n, w in stack(network(1)).items()}
    graph = chain()
    before, after = model.encode(graph, weights, [0]), read.encode(graph, weights, [0])
    assert all(torch.equal(before[g], after[g]) for g in before)


@pytest.mark.parametrize(
    "table",
    [
        {}, {"sizes": [4, 2]}, {"sizes": [4, 0, 2]}, {"sizes": [4, 3, 2], "channels": 0},
        {"sizes": [4, 3, 2], "layers": 0}, {"sizes": [4, 3, 2], "width": 3}, {"sizes": 4},
    ],
)  # fmt: skip
def test_unusable_sizes_are_a_recipes_error(table: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"\[network\]"):
        start({"encoder": "dws", **table}, read_plan({})[1])


# --- what it refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(CASES) - CHAINS))
def test_other_architectures_are_refused(name: str) -> None:
    symmetry, weights = case(name)
    refused(Graph(symmetry), weights)


def test_other_sizes_are_refused_with_both_named() -> None:
    with pytest.raises(MismatchError, match=r"12-16-20-16-5, not 12-16-5"):
        encoder()(chain((12, 16, 5)), stack(network(1, (12, 16, 5))), [0])


@pytest.mark.parametrize(
    "axes",
    [
        {"a.weight": "k 12", "a.bias": "k"},  # nothing reads it
        {"a.weight": "k 12", "a.bias": "k", "b.weight": "k k"},
        {"a.weight": "k 12", "b.weight": "5 k"},
        {"a.weight": "k 12", "a.bias": "k", "n.weight": "k", "b.weight": "5 k"},
        {"a.weight": "k 12", "n.weight": "k", "b.weight": "5 k"},
        {"a.weight": "k 4 3", "a.bias": "k", "b.weight": "5 k"},
        {"a.weight": "k 12", "a.bias": "k", "b.weight": "5 k*4"},
        {"a.weight": "k 12", "a.bias": "k", "b.weight": "5 k", "c.weight": "5 k"},
        {"a.weight": "k 12", "a.bias": "k", "b.weight": "5 k|3"},
        {"b.weight": "5 k", "b.bias": "k"},
    ],
)
def test_what_is_no_plain_chain_is_refused(axes: dict[str, str]) -> None:
    size = {"k": 16, "k*4": 64, "k|3": 19}
    shapes = {n: tuple(size.get(a, 0) or int(a) for a in text.split()) for n, text in axes.items()}
    lines = [f'"{name}" = "{text}"' for name, text in axes.items()]
    graph = Graph(Symmetry(parse_spec("\n".join(["[axes]", *lines])), shapes))
    refused(graph, {name: torch.zeros(shape) for name, shape in shapes.items()})


def refused(graph: Graph, weights: dict[str, Tensor]) -> None:
    model = Dws(DwsConfig((12, 16, 5), channels=2))
    with pytest.raises(MismatchError) as caught:
        model(graph, {name: w.unsqueeze(0) for name, w in weights.items()}, [0])
    assert "--network universal-v1" in caught.value.hint


# --- training -----------------------------------------------------------------------------------------------


def tiny_entry(sizes: tuple[int, ...] = (8, 10, 10, 3)) -> PoolEntry:
    """Six networks that tell three blurred points apart."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(sizes[-1], sizes[0], generator=rng)
    y = torch.arange(300) % sizes[-1]
    x = centres[y] + 0.5 * torch.randn(300, sizes[0], generator=rng)
    examples = Examples(x[:200], y[:200], x[200:], y[200:])
    family = train_family(MLP(sizes), Task("points"), examples, Schedule(8, epochs=3, batch=20), 0)
    return PoolEntry("points", family, graph_of(family), examples, torch.arange(6), torch.tensor([6, 7]))


@pytest.mark.slow
def test_some_steps_of_training_lower_the_loss(tmp_path: Path) -> None:
    table = {"encoder": "dws", "sizes": [8, 10, 10, 3], "channels": 8, "out": 16, "reduced": 4}
    schedule = {"steps": 40, "rate": 3e-3, "networks": 4, "planted_every": 2, "validate_every": 10}
    network, plan = read_plan({"network": table, "train": schedule})
    run = start(network, plan)
    train(run, plan, [tiny_entry()], tmp_path, lambda step, text: None)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert run.step == lines[-1]["step"] == 40
    assert lines[-1]["planted"] < 0.5 * lines[0]["planted"]
    assert lines[-1]["distance"] < lines[0]["distance"]


# --- the recipes --------------------------------------------------------------------------------------------


def test_the_recipes_describe_one_architecture() -> None:
    zoo = read_recipe(RECIPES / "dws-mnist-mlp-v1.zoo.toml")
    network, plan = read_plan(read_recipe(RECIPES / "dws-mnist-mlp-v1.toml"))
    (family,) = family_plans(zoo)
    config = make_encoder(network).config
    assert isinstance(family.design, MLP)
    assert config.sizes == family.design.sizes == (784, 128, 128, 128, 10)
    assert plan.steps > 0
    assert family.schedule.networks == 160
