"""`barrier --pool`: results of several runs as one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from tests.cli.subjects import POINTS, WEIGHTS, by_method, given, refused
from tests.operations.making import deepalign, network, pair, save

Change = Callable[[dict[str, Any]], object]


def run(**changes: object) -> dict[str, Any]:
    """What `--json` prints for one pair, in what is read of it."""
    losses, shares = [0.5, 1.5, 0.7], [0.9, 0.5, 0.8]
    paths = [
        {"method": name, "data": "d", "loss": losses, "accuracy": shares, "seconds": 0.1}
        for name in ("none", "weights")
    ]
    table = {"schema": 1, "command": "barrier", "alphas": [0, 0.5, 1], "loss": "mse", "data": ["d"]}
    return {**table, "paths": paths, **changes}


def kept(folder: Path, name: str, told: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(told))
    return path


@pytest.mark.slow
def test_pairs_of_all_runs_are_averaged(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    c = save(network("named_mlp", 2), tmp_path / "c.pt")
    how = (*given(tmp_path), *WEIGHTS, *POINTS, "--split", "test", "--split", "train", "--json")
    several, one = deepalign("barrier", a, b, c, *how).json, deepalign("barrier", b, c, *how).json
    files = kept(tmp_path, "1.json", several), kept(tmp_path, "2.json", one)
    picture, rows = tmp_path / "p.svg", tmp_path / "p.csv"
    told = deepalign("barrier", "--pool", *files, "--json", "--plot", picture, "--csv", rows).json

    singles = [*several["pairs"], {"paths": one["paths"]}]
    for split in ("test", "train"):
        for method in ("none", "weights"):
            alone = [by_method(single, split)[method] for single in singles]
            pooled = by_method(told, split)[method]
            assert pooled["loss"] == pytest.approx(
                [mean(v) for v in zip(*(s["loss"] for s in alone), strict=True)]
            )
            assert pooled["barrier"] == pytest.approx(mean(s["barrier"] for s in alone))
            assert pooled["barrier_sd"] == pytest.approx(stdev(s["barrier"] for s in alone))
    assert [p["moving"] for p in told["pairs"]] == ["1 b.pt", "1 c.pt", "2"]
    assert told["notes"] == ["means over 3 pairs of 2 runs"]
    assert "±" in picture.read_text()
    assert len(rows.read_text().splitlines()) == 1 + 3 * 2 * 2 * 5
    table = deepalign("barrier", "--pool", *files)
    assert "+-" in table.out
    assert table.err == "note: means over 3 pairs of 2 runs\n"


def test_one_run_is_drawn_again_and_judged(tmp_path: Path) -> None:
    file = kept(tmp_path, "run.json", run())
    told = deepalign("barrier", "--pool", file, "--json").json

    assert by_method(told)["weights"]["barrier"] == pytest.approx(0.9)
    assert deepalign("barrier", "--pool", file, "--max-barrier", 0.91, "-q").code == 0
    assert deepalign("barrier", "--pool", file, "--max-barrier", 0.89, "-q").code == 4


def test_a_loss_that_is_no_number_stays_one(tmp_path: Path) -> None:
    told = run()
    told["paths"][0]["loss"] = [0.5, None, 0.7]
    done = deepalign("barrier", "--pool", kept(tmp_path, "run.json", told))

    assert (done.code, "!" in done.out) == (1, True)
    assert "the loss of 'none' is not finite at alpha 0.5" in done.err


BROKEN: dict[str, Change] = {
    "another command": lambda t: t.update(command="align"),
    "no data": lambda t: t.update(data=[]),
    "no alphas": lambda t: t.pop("alphas"),
    "alphas that fall": lambda t: t.update(alphas=[0, 1, 0.5]),
    "text for numbers": lambda t: t["paths"][0].update(loss=["1", "2", "3"]),
    "a number for losses": lambda t: t["paths"][0].update(loss=3),
    "too few losses": lambda t: t["paths"][0].update(loss=[1, 2]),
    "too few accuracies": lambda t: t["paths"][0].update(accuracy=[1, 2]),
    "no paths": lambda t: t.update(paths=[]),
    "other data": lambda t: t["paths"][0].update(data="e"),
    "a pair less": lambda t: t.update(pairs=[{"moving": n, "paths": t["paths"][:n]} for n in (2, 0)]),
}  # fmt: skip


@pytest.mark.parametrize("problem", BROKEN)
def test_a_broken_file_is_one_sentence(problem: str, tmp_path: Path) -> None:
    told = run()
    BROKEN[problem](told)
    file = kept(tmp_path, "run.json", told)

    refused(
        deepalign("barrier", "--pool", file), 2, "run.json' is not a result of `deepalign barrier --json`"
    )


@pytest.mark.parametrize("text", ["", "[]", "3", "moving,data\n", "[" * 100_000, "\x00\xff"])
def test_a_file_of_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    refused(deepalign("barrier", "--pool", tmp_path / "run.json"), 2, "is not a result of")


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("loss", {"loss": "cross-entropy"}),
        ("alphas", {"alphas": [0, 0.4, 1]}),
        ("data", {"data": ["e"], "paths": [{**path, "data": "e"} for path in run()["paths"]]}),
        ("methods", {"paths": run()["paths"][:1]}),
    ],
)
def test_runs_that_differ(what: str, changes: dict[str, object], tmp_path: Path) -> None:
    files = [kept(tmp_path, f"{i}.json", run(**more)) for i, more in enumerate(({}, changes))]
    refused(deepalign("barrier", "--pool", *files), 2, f"differ in their {what}")


@pytest.mark.slow
def test_what_has_no_effect_is_refused(tmp_path: Path) -> None:
    file = kept(tmp_path, "run.json", run())
    for option in (
        ["-m", "weights"],
        ["--data", "d"],
        ["--limit", 3],
        ["--seed", 1],
        ["--points", 5],
        ["--repair"],
    ):
        refused(deepalign("barrier", "--pool", file, *option), 2, "--pool runs nothing, so --")
    refused(deepalign("barrier", "--pool", file, file), 2, "is given twice")
    refused(deepalign("barrier", "--pool", tmp_path / "gone.json"), 2, "No such file")
    refused(deepalign("barrier", "--pool", file, "--csv", file, "--force"), 2, "is one of the inputs")
