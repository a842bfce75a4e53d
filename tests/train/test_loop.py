from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepalign_cli.errors import CheckpointError, UsageError
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import load_pretrained
from deepalign_cli.network.saved import load_network
from deepalign_cli.train import loop
from deepalign_cli.train.loop import (
    Plan,
    TrainingRun,
    load_state,
    read_plan,
    save_state,
    start,
    train,
)
from deepalign_cli.train.pool import PoolEntry
from deepalign_cli.train.recipes import read_recipe
from deepalign_cli.train.run_state import generator_of
from deepalign_cli.train.workers import Workers
from tests.train.runs import NETWORK, STEPS, log_of, read_pool, write_zoo

ROOT = Path(__file__).parents[2]
PLAN = Plan(**STEPS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> list[PoolEntry]:
    return read_pool(write_zoo(tmp_path_factory.mktemp("tiny")))


def quietly(step: int, words: str) -> None:
    pass


@pytest.fixture(scope="module")
def unbroken(pool: list[PoolEntry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all 12 steps, which no test changes."""
    out = tmp_path_factory.mktemp("unbroken")
    run_in_parts(pool, out, 12)
    return out


def run_in_parts(
    pool: Sequence[PoolEntry], out: Path, *stops: int, advance: Callable[[int, str], None] = quietly
) -> TrainingRun:
    """A run that is stopped after each of some steps; every part begins with a fresh one."""
    for stop in stops:
        run = start(NETWORK, PLAN)
        if (out / "last.pt").exists():
            load_state(run, PLAN, pool, out / "last.pt")
        train(run, PLAN, pool, out, advance, stop=stop)
    return run


def equal(a: Any, b: Any) -> bool:
    """Whether two states are the same, bit by bit."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def state_of(out: Path) -> dict[str, Any]:
    state = dict(torch.load(out / "last.pt", weights_only=True))
    del state["seconds"]
    return state


def assert_same_run(one: Path, other: Path) -> None:
    assert {path.name for path in one.iterdir()} == {"best.safetensors", "last.pt", "log.jsonl"}
    assert {path.name for path in other.iterdir()} == {path.name for path in one.iterdir()}
    assert (one / "best.safetensors").read_bytes() == (other / "best.safetensors").read_bytes()
    assert log_of(one) == log_of(other)
    assert equal(state_of(one), state_of(other))


# --- stopping and going on --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("end", [6, 12])
def test_a_resumed_run_is_the_unbroken_one(pool: list[PoolEntry], tmp_path: Path, end: int) -> None:
    whole = run_in_parts(pool, tmp_path / "whole", end)
    parts = run_in_parts(pool, tmp_path / "parts", 3, end)

    assert whole.step == parts.step == end
    assert [line["step"] for line in log_of(tmp_path / "whole")] == [4, 8, 12][: end // 4]
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert not equal(whole.model.state_dict(), start(NETWORK, PLAN).model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_what_came_after_the_kept_state_is_done_again(
    pool: list[PoolEntry], unbroken: Path, tmp_path: Path, killed: bool
) -> None:
    def interrupt(step: int, words: str) -> None:
        if step == 7:
            raise KeyboardInterrupt

    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        run_in_parts(pool, out, 12, advance=interrupt)
    assert state_of(out)["step"] == 4
    if killed:  # behind the log's next line, before the state's, and within the one after
        with (out / "log.jsonl").open("a") as log:
            log.write('{"step": 8, "seconds": 1.0}\n{"step": 1')
    run_in_parts(pool, out, 12)

    assert_same_run(unbroken, out)


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(pool: list[PoolEntry], tmp_path: Path) -> None:
    run_in_parts(pool, tmp_path, 12)
    before = log_of(tmp_path), (tmp_path / "best.safetensors").read_bytes()

    run = run_in_parts(pool, tmp_path, 99)

    assert run.step == 12
    assert (log_of(tmp_path), (tmp_path / "best.safetensors").read_bytes()) == before


@pytest.mark.slow
def test_the_state_is_kept_before_the_first_step_and_every_so_often(
    pool: list[PoolEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_KEEP_EVERY", 3)
    kept = []
    plan = dataclasses.replace(PLAN, validate_every=100, steps=11)
    train(start(NETWORK, plan), plan, pool, tmp_path, lambda *_: kept.append(state_of(tmp_path)["step"]))

    assert kept == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9]
    assert state_of(tmp_path)["step"] == 11


@pytest.mark.slow
def test_a_run_goes_on_with_what_it_began_with_only(pool: list[PoolEntry], tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(start(NETWORK, PLAN), PLAN, pool, path)
    faster = dataclasses.replace(PLAN, rate=0.5)
    wider = {**NETWORK, "out": 12}

    with pytest.raises(UsageError, match="no run to resume"):
        load_state(start(NETWORK, PLAN), PLAN, pool, tmp_path / "none.pt")
    with pytest.raises(UsageError, match="another rate"):
        load_state(start(NETWORK, faster), faster, pool, path)
    with pytest.raises(UsageError, match=r"another \[network\]"):
        load_state(start(wider, PLAN), PLAN, pool, path)
    with pytest.raises(UsageError, match="other families"):
        load_state(start(NETWORK, PLAN), PLAN, pool[:1], path)
    load_state(start(NETWORK, PLAN), PLAN, pool, path)


@pytest.mark.parametrize("damage", ["empty", "text", "half", "other", "short"])
def test_a_broken_state_is_named(pool: list[PoolEntry], tmp_path: Path, damage: str) -> None:
    path, run = tmp_path / "last.pt", start(NETWORK, PLAN)
    save_state(run, PLAN, pool, path)
    whole = path.read_bytes()
    if damage in ("other", "short"):
        state = dict(torch.load(path, weights_only=True))
        state.pop("optimiser" if damage == "short" else "plan")
        torch.save([1] if damage == "other" else state, path)
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "half": whole[: len(whole) // 2]}[damage])

    with pytest.raises(CheckpointError, match=r"last\.pt"):
        load_state(run, PLAN, pool, path)


# --- the best network -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_best_network_is_that_of_its_step(
    pool: list[PoolEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    excess = iter([0.9, 0.5, 0.7, 0.2, 0.6, 0.2, *[0.8] * 6])
    monkeypatch.setattr(loop, "validate", lambda *_: {"narrow": next(excess)})
    plan = dataclasses.replace(PLAN, validate_every=1)
    run, seen = start(NETWORK, plan), {}

    def remember(step: int, words: str) -> None:
        seen[step] = copy.deepcopy(run.model.state_dict())

    train(run, plan, pool, tmp_path, remember)

    lines = log_of(tmp_path)
    assert [line["step"] for line in lines if line["best"]] == [1, 2, 4]
    best = load_network(tmp_path / "best.safetensors").state_dict()
    assert [step for step, weights in seen.items() if equal(dict(best), dict(weights))] == [4]
    assert run.best == min(line["score"] for line in lines) == lines[3]["score"]


@pytest.mark.slow
def test_a_line_of_the_log(pool: list[PoolEntry], tmp_path: Path) -> None:
    run_in_parts(pool, tmp_path, 12)
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])

    assert list(first) == [
        "step", "score", "best", "seconds", "planted", "distance", "path", "temperature", "excess",
    ]  # fmt: skip
    assert first["step"] == 4
    assert first["best"] is True
    assert list(first["excess"]) == ["narrow", "wide"]


def test_what_was_not_measured_and_what_is_not_finite_is_null(
    pool: list[PoolEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "validate", lambda *_: {"narrow": float("inf")})
    plan = dataclasses.replace(PLAN, weights=(0.0, 1.0, 1.0))
    run = start(NETWORK, plan)
    train(run, plan, pool, tmp_path, quietly, stop=4)

    (line,) = log_of(tmp_path)
    assert (line["planted"], line["score"], line["excess"]) == (None, None, {"narrow": None})
    assert line["distance"] > 0
    assert not (tmp_path / "best.safetensors").exists()


# --- steps ------------------------------------------------------------------------------------------


def drawn(
    pool: list[PoolEntry], tmp_path: Path, plan: Plan, workers: Workers | None = None
) -> list[tuple[str, float]]:
    """The family and the first random number of every step."""
    found = []

    def losses(
        model: DeepAlign, plan: Plan, entry: PoolEntry, rng: torch.Generator, step: int
    ) -> dict[str, Tensor]:
        found.append((entry.name, float(torch.rand(1, generator=rng))))
        return {"path": model.log_temperature.square()}

    train(start(NETWORK, plan), plan, pool, tmp_path, quietly, workers, losses=losses)
    return found


@pytest.mark.slow
def test_workers_draw_apart_and_only_the_first_writes(pool: list[PoolEntry], tmp_path: Path) -> None:
    second = Workers()
    second.rank = 1
    one, two = (drawn(pool, tmp_path / str(i), PLAN, w) for i, w in enumerate((Workers(), second)))

    assert len({number for _, number in one + two}) == 2 * PLAN.steps
    assert one == drawn(pool, tmp_path / "again", PLAN)
    assert not (tmp_path / "1").exists()


@pytest.mark.slow
def test_families_are_drawn_by_their_shares(pool: list[PoolEntry], tmp_path: Path) -> None:
    never = dataclasses.replace(PLAN, families={"narrow": 0, "wide": 3}, validate_every=99)
    both = dataclasses.replace(PLAN, validate_every=99)

    assert {name for name, _ in drawn(pool, tmp_path / "never", never)} == {"wide"}
    assert {name for name, _ in drawn(pool, tmp_path / "both", both)} == {"narrow", "wide"}


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_not_followed(pool: list[PoolEntry], tmp_path: Path) -> None:
    def losses(
        model: DeepAlign, plan: Plan, entry: PoolEntry, rng: torch.Generator, step: int
    ) -> dict[str, Tensor]:
        return {"path": model.log_temperature * (float("nan") if step % 2 else 1.0)}

    run, seen = start(NETWORK, PLAN), []
    told = lambda *_: seen.append(float(run.model.log_temperature.detach()))  # noqa: E731
    train(run, PLAN, pool, tmp_path, told, losses=losses)

    assert all(seen[i] == seen[i + 1] for i in range(0, 12, 2))
    assert all(seen[i] > seen[i + 1] for i in range(1, 11, 2))


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"steps": 9}, "steps must be an integer of at least 10, not 9"),
        ({"steps": "many"}, "steps"),
        ({"networks": 1}, r"networks must be an integer of at least \d, not 1"),
        ({"images": 0}, r"images must be an integer of at least \d, not 0"),
        ({"planted_every": 0}, r"planted_every must be an integer of at least \d, not 0"),
        ({"validate_every": True}, "validate_every must be an integer, not True"),
        ({"seed": -1}, r"seed must be an integer of at least \d, not -1"),
        ({"seed": 2**63}, "seed must be an integer"),
        ({"rate": "fast"}, "rate"),
        ({"decay": -0.1}, "decay must be a number of at least 0, not -0.1"),
        ({"hard_from": -1.0}, "hard_from must be a number of at least 0, not -1.0"),
        ({"start": 3}, "start must be a string, not 3"),
        ({"hard": float("nan")}, "hard must be a number of at least 0, not nan"),
        ({"weights": [1.0, 1.0]}, "weights"),
        ({"weights": [1.0, 1.0, -1.0]}, r"weights\[2\] must be a number of at least 0, not -1.0"),
        ({"weights": 1}, "weights"),
        ({"families": {"cnn": "often"}}, "families"),
        ({"families": 2}, "families"),
        ({"stepz": 3}, "'stepz'"),
    ],
)
def test_an_unusable_entry_of_the_plan_is_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=rf"^\[train\] of the recipe: {named}"):
        read_plan({"train": table})


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ({"trian": {}}, "trian"),
        ({"train": 3}, "'train' of the recipe is not a table"),
        ({"network": {"encoder": "nope"}}, "no encoder 'nope'"),
        ({"network": {"encoder": ["dws"]}}, "no encoder"),
        ({"network": {"channels": "x"}}, r"\[network\] of the recipe: channels must be an integer, not 'x'"),
        ({"network": {"channels": -3}}, "channels must be an integer of at least 1, not -3"),
        ({"network": {"chanels": 3}}, r"\[network\] of the recipe: 'chanels' is not an entry"),
        ({"network": {"encoder": "dws"}}, r"\[network\] of the recipe: 'sizes' is missing"),
        ({"network": {"encoder": "dws", "sizes": [4, -3, 2]}}, r"\[network\]"),
    ],
)
def test_an_unusable_table_is_named(recipe: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        start(*read_plan(recipe))


@pytest.mark.slow
def test_families_that_do_not_do_are_refused(pool: list[PoolEntry], tmp_path: Path) -> None:
    def refused(entries: list[PoolEntry], families: dict[str, float], named: str) -> None:
        plan = dataclasses.replace(PLAN, families=families)
        with pytest.raises(UsageError, match=named):
            train(start(NETWORK, plan), plan, entries, tmp_path / "out", quietly)
        assert not (tmp_path / "out").exists()

    few = dataclasses.replace(pool[0], train=torch.tensor([0]))
    odd = dataclasses.replace(pool[0], held=torch.tensor([0, 1, 2]))
    member = dataclasses.replace(pool[0].family, member=torch.tensor([0, 1, 1, 0, 1]))
    apart = dataclasses.replace(pool[0], family=member)
    for entry in (few, odd, apart):
        refused([pool[1], entry], {}, "'narrow' has too few networks")
    refused(pool, {"cnn": 2}, "begins with 'cnn'")
    refused(pool, {"narrow": 0, "wide": 0.0}, "no family to draw")


def test_a_run_may_begin_with_a_trained_aligner(unbroken: Path) -> None:
    best = str(unbroken / "best.safetensors")
    plan = dataclasses.replace(PLAN, start=best)
    run = start(NETWORK, plan)
    assert equal(dict(run.model.state_dict()), dict(load_network(Path(best)).state_dict()))
    assert all(w.requires_grad for w in run.model.parameters())
    with pytest.raises(UsageError, match=r"'best.safetensors', which \[train\] starts with, has another enc"):
        start({**NETWORK, "channels": 9}, plan)
    with pytest.raises(UsageError, match="no network is called 'univers'"):
        start(NETWORK, dataclasses.replace(PLAN, start="univers"))


def test_a_start_leaves_the_refiner_behind() -> None:
    network = read_recipe(ROOT / "pretrained" / "universal-v1.toml")["network"]
    model = start(network, dataclasses.replace(PLAN, start="universal-v1")).model
    shipped = load_pretrained("universal-v1")
    assert shipped.refiner is not None
    assert model.refiner is None
    assert torch.equal(model.log_temperature, shipped.log_temperature)


def test_rounded_paths_begin_when_the_plan_says(
    pool: list[PoolEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = []
    monkeypatch.setattr(loop, "straight_through", lambda p: rounded.append(p) or p)
    run = start(NETWORK, PLAN)

    def is_rounded(hard_from: float, step: int) -> bool:
        rounded.clear()
        plan = dataclasses.replace(PLAN, hard=1.0, hard_from=hard_from)
        loop.pair_losses(run.model, plan, pool[0], generator_of(0, step), step)
        return bool(rounded)

    assert [is_rounded(0.0, 0), is_rounded(0.5, 5), is_rounded(0.5, 6)] == [True, False, True]


def test_networks_of_one_parent_are_planted_in_each_other(pool: list[PoolEntry]) -> None:
    run, entry = start(NETWORK, PLAN), pool[0]
    related = dataclasses.replace(entry, family=dataclasses.replace(entry.family, common=0.5))

    def planted(entry: PoolEntry, step: int) -> bool:
        return "planted" in loop.pair_losses(run.model, PLAN, entry, generator_of(0, step), step)

    assert [planted(entry, 0), planted(entry, 1)] == [True, False]
    assert [planted(related, 0), planted(related, 1)] == [True, True]


def test_the_seed_gives_the_first_weights_and_leaves_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, again = (start(NETWORK, PLAN).model.state_dict() for _ in range(2))
    other = start(NETWORK, dataclasses.replace(PLAN, seed=1)).model.state_dict()

    assert torch.equal(torch.rand(3), expected)
    assert equal(dict(one), dict(again))
    assert not equal(dict(one), dict(other))
