from __future__ import annotations

import copy
import dataclasses
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepalign_cli.errors import UsageError
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.saved import load_network
from deepalign_cli.train import searching
from deepalign_cli.train.loop import Plan, start
from deepalign_cli.train.pool import PoolEntry
from deepalign_cli.train.recipes import make
from deepalign_cli.train.searching import Search, add_refiner, search, write_searched
from tests.train.builders import trained
from tests.train.runs import NETWORK, log_of, read_pool, write_zoo

PLAN = Search(trials=12, images=40, seed=0)
REFINER = {"rounds": 2, "iterations": 5}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> list[PoolEntry]:
    return read_pool(write_zoo(tmp_path_factory.mktemp("tiny")))


def fresh(linear: float | None = None) -> DeepAlign:
    """An untrained encoder with a fresh refiner; `linear` takes the place of its weights."""
    model = start(NETWORK, Plan(seed=0)).model
    refiner = add_refiner(model, REFINER)
    if linear is not None:
        with torch.no_grad():
            for step in refiner.rounds:
                step.get_parameter("linear").fill_(linear)
    return model


def weights(model: DeepAlign) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def told(model: DeepAlign, pool: list[PoolEntry], plan: Search = PLAN) -> list[float]:
    """What a search tells of its score, from before the first trial to after the last."""
    scores: list[float] = []
    reached = search(model, pool, plan, lambda trial, least: scores.append(least))
    assert len(scores) == plan.trials + 1
    assert reached == scores[-1]
    return scores


def score_of(model: DeepAlign, pool: list[PoolEntry]) -> float:
    """The score of a refiner as it is."""
    return told(copy.deepcopy(model), pool, dataclasses.replace(PLAN, trials=1))[0]


@pytest.mark.slow
def test_a_search_improves_bad_weights_and_never_turns_back(pool: list[PoolEntry]) -> None:
    model = fresh(linear=-1.0)  # the contrary of all that the features say
    before = score_of(model, pool)
    scores = told(model, pool)

    assert scores[0] == before
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < before - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("linear", [None, -1.0])
def test_the_weights_that_are_set_have_the_score_that_is_told(
    linear: float | None, pool: list[PoolEntry]
) -> None:
    model = fresh(linear)
    scores = told(model, pool)

    assert score_of(model, pool) == scores[-1]


@pytest.mark.slow
def test_fields_are_searched_on_too() -> None:
    model, waves = fresh(), [trained("siren")]
    assert score_of(model, waves) == told(model, waves)[0]
    assert math.isfinite(score_of(model, waves))


@pytest.mark.slow
def test_a_seed_means_one_search(pool: list[PoolEntry]) -> None:
    one, same, other = fresh(-1.0), fresh(-1.0), fresh(-1.0)
    first = told(one, pool)
    torch.manual_seed(5)  # of no account

    assert told(same, pool) == first
    assert all(torch.equal(w, same.state_dict()[name]) for name, w in one.state_dict().items())
    assert told(other, pool, dataclasses.replace(PLAN, seed=1)) != first


@pytest.mark.slow
def test_fewer_trials_are_the_beginning_of_more(pool: list[PoolEntry]) -> None:
    assert told(fresh(-1.0), pool)[:6] == told(fresh(-1.0), pool, dataclasses.replace(PLAN, trials=5))


@pytest.mark.slow
def test_nothing_but_the_rounds_weights_changes(pool: list[PoolEntry]) -> None:
    model = fresh(linear=-1.0)
    before = weights(model)
    search(model, pool, PLAN, lambda trial, least: None)
    after = model.state_dict()

    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert changed <= {f"refiner.rounds.{i}.linear" for i in range(REFINER["rounds"])}


def test_a_model_without_a_refiner_is_refused(pool: list[PoolEntry]) -> None:
    with pytest.raises(ValueError, match="no refiner"):
        search(start(NETWORK, Plan()).model, pool, PLAN, lambda trial, least: None)


@pytest.mark.slow
def test_what_is_no_number_is_never_kept(pool: list[PoolEntry], monkeypatch: pytest.MonkeyPatch) -> None:
    model, true, midpoints = fresh(linear=-1.0), searching._loss, 0
    before = weights(model)

    def broken(entry: PoolEntry, stack: Any, index: int, images: int) -> float:
        nonlocal midpoints
        midpoints += 1
        known = midpoints <= 3 * len(pool)  # two ends of each pair, and one midpoint of each
        return true(entry, stack, index, images) if known else math.nan

    monkeypatch.setattr(searching, "_loss", broken)
    scores = told(model, pool)

    assert math.isfinite(scores[0])
    assert set(scores) == {scores[0]}
    assert all(torch.equal(w, model.state_dict()[name]) for name, w in before.items())


@pytest.mark.slow
def test_the_log_and_the_network_of_a_search(pool: list[PoolEntry], tmp_path: Path) -> None:
    model, steps = fresh(linear=-1.0), []
    reached = write_searched(model, pool, PLAN, tmp_path / "run", lambda trial, words: steps.append(trial))
    log = log_of(tmp_path / "run")

    assert steps == list(range(1, PLAN.trials + 1))
    assert [line["trial"] for line in log] == [0, *steps]
    assert [line["score"] for line in log] == told(fresh(linear=-1.0), pool)
    falls = [True, *(b["score"] < a["score"] for a, b in pairwise(log))]
    assert [line["best"] for line in log] == falls
    assert log[-1]["score"] == reached
    found = load_network(tmp_path / "run" / "best.safetensors")
    assert found.refiner is not None
    assert all(torch.equal(w, found.state_dict()[name]) for name, w in model.state_dict().items())


def test_without_a_finite_score_there_is_no_network(
    pool: list[PoolEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_loss", lambda *given: math.nan)
    plan = dataclasses.replace(PLAN, trials=2)
    reached = write_searched(fresh(), pool, plan, tmp_path, lambda trial, words: None)

    assert reached == math.inf
    assert [(line["score"], line["best"]) for line in log_of(tmp_path)] == [(None, False)] * 3
    assert not (tmp_path / "best.safetensors").exists()


def test_families_without_a_pair_to_search_on_are_named(pool: list[PoolEntry], tmp_path: Path) -> None:
    alone = dataclasses.replace(pool[0], train=pool[0].train[:1])
    with pytest.raises(UsageError, match="too few networks"):
        write_searched(fresh(), [alone], PLAN, tmp_path / "run", lambda trial, words: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"trials": 0}, "trials must be an integer of at least 1, not 0"),
        ({"images": 0}, "images must be an integer of at least 1, not 0"),
        ({"seed": -1}, "seed must be an integer of at least 0, not -1"),
        ({"trials": 2.5}, "trials must be an integer, not 2.5"),
        ({"images": True}, "images must be an integer, not True"),
        ({"steps": 3}, "'steps' is not an entry"),
    ],
)
def test_an_unusable_entry_is_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=rf"^\[search\] of the recipe: {named}"):
        make(Search, table, "search")


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"rounds": 0}, "rounds must be an integer of at least 1, not 0"),
        ({"iterations": "x"}, "iterations must be an integer, not 'x'"),
        ({"hidden": 4}, "'hidden' is not an entry"),
    ],
)
def test_an_unusable_refiner_is_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=rf"^\[refiner\] of the recipe: {named}"):
        add_refiner(start(NETWORK, Plan()).model, table)
