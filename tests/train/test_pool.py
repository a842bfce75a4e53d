from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs import Design
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.models.designs.transformer import Transformer
from deepalign_cli.train.pool import HELD_OUT, graph_of, load_pool, pairs_of
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.zoo_files import Family, save_family
from tests.symmetry.builders import seeded
from tests.train.builders import FIELD, TINY, entry_of, same_weights, separable, waves, write_data


def family_of(design: Design, task: Task = TINY, count: int = 6, members: int = 1) -> Family:
    """Networks as they are initialised."""
    fresh = [design.init(seeded(i)) for i in range(count)]
    weights = {n: torch.stack([net[n] for net in fresh]) for n in fresh[0]}
    return Family(design, task, weights, torch.zeros(count), torch.arange(count) % members)


@pytest.mark.parametrize(
    ("design", "groups"),
    [
        (MLP((64, 8, 6, 10)), 2),
        (CNN((1, 4, 8), 8, norm=True), 2),
        (ResNet((4, 8)), 4),
        (Siren((2, 8, 8, 1)), 2),
        (Transformer(8, 2, 12, layers=1), 3),
    ],
)
def test_the_graph_of_a_design_has_all_of_its_groups(design: Design, groups: int) -> None:
    graph = graph_of(family_of(design))
    assert len(graph.symmetry.sizes) == groups
    if isinstance(design, Transformer):
        assert design.heads in graph.symmetry.sizes.values()


def test_a_pool_is_read_in_the_order_of_the_names(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    families = {"b-01": family_of(MLP((64, 4, 10))), "b-00": family_of(CNN((1, 4, 8), 8)),
                "a-00": family_of(Siren((2, 4, 1)), FIELD, 8, 4)}  # fmt: skip
    for name, family in families.items():
        save_family(zoo / f"{name}.safetensors", family)
    pool = load_pool(zoo, write_data(tmp_path))
    assert [entry.name for entry in pool] == ["a-00", "b-00", "b-01"]
    assert pool[1].examples is pool[2].examples
    assert pool[0].examples is not pool[1].examples
    for entry in pool:
        assert same_weights(dict(entry.family.weights), dict(families[entry.name].weights))
        assert set(entry.train.tolist()).isdisjoint(entry.held.tolist())


def test_the_last_networks_are_held_out(tmp_path: Path) -> None:
    save_family(tmp_path / "x.safetensors", family_of(MLP((64, 4, 10))))
    (entry,) = load_pool(tmp_path, write_data(tmp_path))
    assert (entry.train.tolist(), entry.held.tolist()) == ([0, 1, 2, 3], [4, 5])
    assert len(entry.held) == HELD_OUT


def test_whole_members_are_held_out(tmp_path: Path) -> None:
    save_family(tmp_path / "x.safetensors", family_of(Siren((2, 4, 1)), FIELD, 12, 4))
    (entry,) = load_pool(tmp_path, write_data(tmp_path))
    member = entry.family.member
    assert sorted(set(member[entry.train].tolist())) == [0, 1]
    held = entry.held.reshape(-1, 2)
    assert member[held].tolist() == [[2, 2], [3, 3]]
    assert all(i != j for i, j in held.tolist())


def test_an_empty_folder_is_no_zoo(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no zoo"):
        load_pool(tmp_path, tmp_path)


def test_a_stack_holds_the_networks_that_were_asked_for() -> None:
    entry = entry_of(family_of(MLP((16, 4, 10))), separable())
    stack = entry.stack(torch.tensor([3, 0]))
    assert all(torch.equal(w, entry.family.weights[n][[3, 0]]) for n, w in stack.items())


def test_every_network_of_a_step_is_aligned_once_each_way() -> None:
    entry = entry_of(family_of(MLP((16, 4, 10)), count=9), separable(), held=(7, 8))
    nets, first, second = pairs_of(entry, 5, seeded(1))
    assert len(set(nets.tolist())) == 5
    assert set(nets.tolist()) <= set(range(7))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(5))
    assert not (first == second).any()
    again, other = pairs_of(entry, 5, seeded(1))[0], pairs_of(entry, 5, seeded(2))[0]
    assert torch.equal(nets, again)
    assert not torch.equal(nets, other)


def test_fields_are_aligned_within_their_member() -> None:
    family = family_of(Siren((2, 4, 1)), FIELD, 12, 4)
    entry = entry_of(family, waves(), held=(2, 3, 6, 7, 10, 11))
    nets, first, second = pairs_of(entry, 4, seeded(1))
    assert len(set(nets.tolist())) == len(nets) == 4
    assert set(nets.tolist()) <= set(entry.train.tolist())
    assert torch.equal(family.member[nets][first], family.member[nets][second])
    assert not (first == second).any()
    both = set(zip(first.tolist(), second.tolist(), strict=True))
    assert both == {(j, i) for i, j in both}
