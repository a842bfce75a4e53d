from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.saved import load_network
from deepalign_cli.train.loop import Plan, TrainingRun, load_state, save_state, start, train
from deepalign_cli.train.plans import Schedule
from deepalign_cli.train.pool import PoolEntry
from deepalign_cli.train.refining import Refining, _predicted, refined, start_refiner
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.zoo_training import train_family
from tests.symmetry.builders import seeded
from tests.train.builders import entry_of, waves
from tests.train.runs import NETWORK, STEPS, log_of, read_pool, write_zoo

PLAN = Plan(**STEPS)  # type: ignore[arg-type]
REFINER = {"rounds": 2, "hidden": 4, "iterations": 6}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> list[PoolEntry]:
    return read_pool(write_zoo(tmp_path_factory.mktemp("tiny")))


def behind(seed: int = 0) -> DeepAlign:
    """An encoder that nobody has trained, ready to be refined."""
    return start(NETWORK, dataclasses.replace(PLAN, seed=seed)).model


def begin(plan: Plan = PLAN, table: dict[str, Any] | None = None, seed: int = 0) -> TrainingRun:
    return start_refiner(behind(seed), REFINER if table is None else table, plan)


def quietly(step: int, words: str) -> None:
    pass


def run_in_parts(pool: list[PoolEntry], out: Path, *stops: int) -> TrainingRun:
    for stop in stops:
        run = begin()
        if (out / "last.pt").exists():
            load_state(run, PLAN, pool, out / "last.pt")
        train(run, PLAN, pool, out, quietly, stop=stop, lesson=Refining().lesson())
    return run


@pytest.fixture(scope="module")
def whole(pool: list[PoolEntry], tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingRun, Path]:
    """An unbroken run and its folder, which no test changes."""
    out = tmp_path_factory.mktemp("whole")
    return run_in_parts(pool, out, 12), out


def mean_distance(run: TrainingRun, plan: Plan, pool: list[PoolEntry]) -> float:
    """The distance loss of the training pairs, mean over the families."""
    with torch.no_grad():
        found = [Refining().losses(run.model, plan, entry, seeded(7), 0) for entry in pool]
    return sum(float(parts["distance"]) for parts in found) / len(pool)


def test_training_lowers_its_loss_and_leaves_the_encoder(pool: list[PoolEntry], tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, steps=40, weights=(0.0, 1.0, 0.0), validate_every=40)
    run = begin(plan)
    before, fresh = copy.deepcopy(run.model.state_dict()), mean_distance(run, plan, pool)

    train(run, plan, pool, tmp_path, quietly, lesson=Refining().lesson())

    assert mean_distance(run, plan, pool) < 0.95 * fresh
    after = run.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("refiner.") for name in changed)
    assert {name for name in before if not name.startswith("refiner.")} == set(behind().state_dict())


def test_a_resumed_run_is_the_unbroken_one(
    whole: tuple[TrainingRun, Path], pool: list[PoolEntry], tmp_path: Path
) -> None:
    (unbroken, out), parts = whole, run_in_parts(pool, tmp_path, 3, 8, 12)

    assert unbroken.step == parts.step == 12
    assert log_of(out) == log_of(tmp_path)
    one, other = (folder / "best.safetensors" for folder in (out, tmp_path))
    assert one.read_bytes() == other.read_bytes()
    for mine, theirs in ((unbroken.model, parts.model), (unbroken.optimiser, parts.optimiser)):
        assert str(mine.state_dict()) == str(theirs.state_dict())
    a, b = unbroken.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_best_network_holds_the_encoder_and_the_refiner(whole: tuple[TrainingRun, Path]) -> None:
    found, own = load_network(whole[1] / "best.safetensors"), behind().state_dict()

    assert found.refiner is not None
    assert dataclasses.asdict(found.refiner.config) == REFINER
    assert all(torch.equal(found.state_dict()[name], w) for name, w in own.items())


@pytest.mark.parametrize("kind", ["classes", "field"])
def test_what_is_kept_is_what_a_pair_alone_is_predicted(pool: list[PoolEntry], kind: str) -> None:
    entry = pool[1]
    if kind == "field":  # networks of one image are paired, and of no other
        task, examples = Task("waves", side=6, field=True), waves()
        family = train_family(Siren((2, 6, 1), 3.0), task, examples, Schedule(9, 1, 20, members=3), 1)
        entry = entry_of(family, examples, held=(2, 5))
    model, known = begin().model, _predicted(begin().model, entry)
    member = entry.family.member

    assert sorted(known.first.tolist()) == sorted(known.second.tolist()) == sorted(entry.train.tolist())
    for k, (i, j) in enumerate(zip(known.first, known.second, strict=True)):
        assert member[i] == member[j]
        a, b = entry.stack(i.reshape(1)), entry.stack(j.reshape(1))
        alone = refined(model, entry, a, b)
        kept = model.refine(entry.graph, a, b, {g: s[k : k + 1] for g, s in known.similarity.items()})
        assert alone.keys() == kept.keys() == known.similarity.keys()
        for g, x in alone.items():
            assert torch.allclose(x, kept[g], atol=1e-4)
            assert float(x.detach().std()) > 0.1


def test_a_run_goes_on_with_what_it_began_with_only(pool: list[PoolEntry], tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(begin(), PLAN, pool, path)

    with pytest.raises(UsageError, match=r"another \[refiner\]"):
        load_state(begin(table={**REFINER, "hidden": 5}), PLAN, pool, path)
    with pytest.raises(UsageError, match=r"another \[refiner\]"):
        load_state(start(NETWORK, PLAN), PLAN, pool, path)
    with pytest.raises(UsageError, match="refines another aligner"):
        load_state(begin(seed=1), PLAN, pool, path)
    load_state(begin(), PLAN, pool, path)
    save_state(start(NETWORK, PLAN), PLAN, pool, path)
    with pytest.raises(UsageError, match=r"another \[refiner\]"):
        load_state(begin(), PLAN, pool, path)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"rounds": 0}, "rounds = 0"),
        ({"hidden": -1}, "hidden = -1"),
        ({"iterations": "x"}, "iterations = 'x'"),
        ({"layers": 2}, "'layers'"),
    ],
)
def test_an_unusable_table_is_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=rf"^\[refiner\] of the recipe: {named}"):
        begin(table=table)
