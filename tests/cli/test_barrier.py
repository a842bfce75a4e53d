"""`deepalign barrier`: its figures, what it compares, its limit, and losses that are no numbers."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from deepalign_cli.measure import paths as evaluating
from tests import nets
from tests.cli.subjects import (
    ALPHAS,
    POINTS,
    WEIGHTS,
    between,
    by_method,
    examples,
    factory,
    figures,
    given,
    measured,
    overflowing,
    refused,
    same_function,
    taught,
)
from tests.cli.test_merge import three
from tests.operations.making import deepalign, interrupted, listing, network, pair, save, tensors


def expected(kind: str, a: Path, moved: Path, data: Path, split: str = "test") -> dict[str, Any]:
    """Losses, accuracies and figures, by a plain loop."""
    module, (x, labels) = nets.ALL[kind]()[0], examples(data, split)
    own, other = (torch.load(p) if p.suffix == ".pt" else tensors(p) for p in (a, moved))
    losses, shares = zip(*(measured(module, between(own, other, t), x, labels) for t in ALPHAS), strict=True)
    return {"loss": list(losses), "accuracy": list(shares), **figures(ALPHAS, losses, shares)}


# --- the figures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "suffix"), [("named_mlp", ".pt"), ("plain_cnn_bn", ".safetensors")])
def test_the_figures_are_those_of_a_plain_loop(kind: str, suffix: str, tmp_path: Path) -> None:
    a, b = (save(network(kind, seed), tmp_path / f"{seed}{suffix}") for seed in range(2))
    moved = tmp_path / "moved.safetensors"
    assert deepalign("align", a, b, *WEIGHTS, "-o", moved).code == 0
    done = deepalign("barrier", a, b, *given(tmp_path, kind), *WEIGHTS, *POINTS, "--json")

    assert (done.code, done.err) == (0, "")
    assert done.json["alphas"] == ALPHAS
    paths = by_method(done.json)
    assert list(paths) == ["none", "weights"]
    for path, other in (("none", b), ("weights", moved)):
        for key, value in expected(kind, a, other, tmp_path / "data.npz").items():
            assert paths[path][key] == pytest.approx(value, rel=1e-5, abs=1e-5), (path, key)
    assert paths["weights"]["loss"] != paths["none"]["loss"]


@pytest.mark.slow
def test_json_has_what_scripts_rely_on(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    told = deepalign("barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "--json").json

    assert {"schema", "command", "alphas", "paths", "passed"} <= set(told)
    assert (told["schema"], told["command"], told["passed"]) == (1, "barrier", None)
    assert (told["loss"], told["data"]) == ("cross-entropy", ["data.npz, test, 24 examples"])
    for path in told["paths"]:
        assert {
            "method", "loss", "accuracy", "barrier", "auc", "auc_clipped", "midpoint_accuracy", "seconds",
            "data", "error_barrier", "midpoint_loss", "distance_before", "distance_after",
        } <= set(path)  # fmt: skip
        assert len(path["loss"]) == len(path["accuracy"]) == 5
    first, second = told["paths"]
    assert first["distance_before"] == first["distance_after"] == second["distance_before"]
    assert second["distance_after"] < second["distance_before"]


@pytest.mark.slow
def test_the_model_is_read_off_its_names_where_none_is_given(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    known = deepalign("barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "--json").json
    own = ("--activation", "relu", "--data", tmp_path / "data.npz")
    told = deepalign("barrier", a, b, *own, "-m", "none", *POINTS, "--json").json

    assert by_method(told)["none"]["loss"] == by_method(known)["none"]["loss"]
    assert list(by_method(told)) == ["none"]


def test_values_are_measured_by_the_squared_error(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    x = torch.randn(20, 12)
    labels = torch.randn(20, 5)
    np.savez(tmp_path / "values.npz", inputs=x.numpy(), labels=labels.numpy())
    own = ("--model", factory(tmp_path), "--data", tmp_path / "values.npz")
    told = deepalign("barrier", a, b, *own, *POINTS, "-m", "none", "--json").json

    (path,) = told["paths"]
    module = nets.ALL["named_mlp"]()[0]
    module.load_state_dict(torch.load(a))
    with torch.no_grad():
        assert path["loss"][0] == pytest.approx(float((module(x) - labels).square().mean()), rel=1e-5)
    assert told["loss"] == "mean squared error"
    assert all(path[key] is None for key in ("accuracy", "error_barrier", "midpoint_accuracy"))


def test_the_user_may_bring_the_loss(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    (tmp_path / "own.py").write_text("def twice(out, labels):\n    return 2 * out.square().mean()\n")
    own = ("--loss", f"{tmp_path / 'own.py'}:twice")
    told = deepalign("barrier", a, b, *given(tmp_path), *POINTS, "-m", "none", *own, "--json").json

    module, (x, _) = nets.ALL["named_mlp"]()[0], examples(tmp_path / "data.npz")
    module.load_state_dict(torch.load(b))
    with torch.no_grad():
        assert told["paths"][0]["loss"][-1] == pytest.approx(float(2 * module(x).square().mean()), rel=1e-5)
    assert told["paths"][0]["accuracy"] is not None


@pytest.mark.slow
def test_the_figures_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    how = (*given(tmp_path, "plain_cnn_bn"), "-m", "none", *POINTS, "--json")
    whole = deepalign("barrier", a, b, *how).json["paths"][0]
    parts = deepalign("barrier", a, b, *how, "--batch-size", 7).json["paths"][0]

    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert parts["accuracy"] == whole["accuracy"]


def test_limit_takes_so_many_examples(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    told = deepalign("barrier", a, b, *given(tmp_path), "-m", "none", *POINTS, "--limit", 6, "--json").json

    module, (x, labels) = nets.ALL["named_mlp"]()[0], examples(tmp_path / "data.npz")
    loss, _ = measured(module, torch.load(a), x[::4], labels[::4])
    assert told["paths"][0]["loss"][0] == pytest.approx(loss, rel=1e-5)
    assert told["data"] == ["data.npz, test, 6 examples"]


# --- what is compared -----------------------------------------------------------------------------


@pytest.mark.slow
def test_splits_stand_side_by_side(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    how = (*given(tmp_path), "-m", "none", *POINTS, "--split", "test", "--split", "train")
    told = deepalign("barrier", a, b, *how, "--json").json

    assert told["data"] == [f"data.npz, {split}, 24 examples" for split in ("test", "train")]
    for split in ("test", "train"):
        path = by_method(told, split)["none"]
        want = expected("named_mlp", a, b, tmp_path / "data.npz", split)
        assert path["loss"] == pytest.approx(want["loss"], rel=1e-5)
    shown = deepalign("barrier", a, b, *how).out
    assert shown.count("method") == 2
    assert shown.index("data.npz, test") < shown.index("data.npz, train")


@pytest.mark.slow
def test_several_methods_and_the_naive_one_first_and_once(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    asked = [
        part for name in ("weights", "none", "activations", "dual", "deepalign") for part in ("-m", name)
    ]
    done = deepalign("barrier", a, b, *given(tmp_path), *asked, *POINTS, "--sketches", 1, "--json")

    assert done.code == 0
    names = [path["method"] for path in done.json["paths"]]
    assert names == ["none", "weights", "activations", "dual", "deepalign"]
    ends = np.array([[path["loss"][0], path["loss"][-1]] for path in done.json["paths"]])
    assert np.ptp(ends, axis=0).max() < 1e-4  # the same networks at the ends, whatever moved
    assert {"kept", "why"} <= set(by_method(done.json)["deepalign"])


@pytest.mark.slow
def test_deepalign_is_the_default(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    done = deepalign("barrier", a, b, *given(tmp_path), *POINTS, "--sketches", 1, "--json")

    assert [path["method"] for path in done.json["paths"]] == ["none", "deepalign"]


@pytest.mark.slow
def test_several_inputs_give_means_and_deviations(tmp_path: Path) -> None:
    a, b, c = (save(network("named_mlp", seed), tmp_path / f"{n}.pt") for seed, n in enumerate("abc"))
    how = (*given(tmp_path), *WEIGHTS, *POINTS)
    told = deepalign("barrier", a, b, c, *how, "--json").json
    alone = [deepalign("barrier", a, other, *how, "--json").json for other in (b, c)]

    assert [pair["moving"] for pair in told["pairs"]] == ["b.pt", "c.pt"]
    for method in ("none", "weights"):
        whole, parts = by_method(told)[method], [by_method(one)[method] for one in alone]
        for key in ("barrier", "auc", "auc_clipped", "error_barrier", "midpoint_loss", "midpoint_accuracy"):
            values = [part[key] for part in parts]
            assert whole[key] == pytest.approx(np.mean(values), abs=1e-9)
            assert whole[f"{key}_sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
        assert whole["loss"] == pytest.approx(np.mean([part["loss"] for part in parts], 0).tolist(), abs=1e-9)
        for kept, part in zip(told["pairs"], parts, strict=True):
            (one,) = [path for path in kept["paths"] if path["method"] == method]
            assert one["loss"] == pytest.approx(part["loss"], abs=1e-9)
            assert one["distance_after"] == pytest.approx(part["distance_after"], abs=1e-9)
    shown = deepalign("barrier", a, b, c, *how).out
    row = next(line for line in shown.splitlines() if line.startswith("weights"))
    path = by_method(told)["weights"]
    assert f"{path['barrier']:.4g}"[:4] in row
    assert row.count("+-") == 4


@pytest.mark.slow
def test_a_saved_alignment_is_used(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept = tmp_path / "kept"
    deepalign("align", a, b, *WEIGHTS, "-o", tmp_path / "moved", "--save-alignment", kept)
    done = deepalign("barrier", a, b, *given(tmp_path), "--alignment", kept, *POINTS, "--json")

    assert done.code == 0
    naive, saved = done.json["paths"]
    assert (naive["method"], saved["method"]) == ("none", "weights")
    want = expected("named_mlp", a, tmp_path / "moved", tmp_path / "data.npz")
    assert saved["loss"] == pytest.approx(want["loss"], rel=1e-5)
    assert naive["loss"] != saved["loss"]


@pytest.mark.slow
def test_a_saved_alignment_of_other_networks_is_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept, c = tmp_path / "kept", save(network("named_mlp", 7), tmp_path / "c.pt")
    deepalign("align", a, b, *WEIGHTS, "-o", tmp_path / "moved", "--save-alignment", kept)
    how = ("barrier", a, c, *given(tmp_path), "--alignment", kept, *POINTS)
    refused = deepalign(*how)

    assert (refused.code, refused.out) == (3, "")
    assert "another moving input" in refused.err
    assert deepalign(*how, "--force").code == 0


@pytest.mark.slow
def test_repaired_ways_stand_beside_the_others(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    how = (*given(tmp_path, "plain_cnn_bn"), *WEIGHTS, *POINTS, "--json")
    plain, both = (deepalign("barrier", a, b, *how, *more).json for more in ((), ("--repair",)))

    methods = [path["method"] for path in both["paths"]]
    assert methods == ["none", "none + repair", "weights", "weights + repair"]
    paths = by_method(both)
    for name, path in by_method(plain).items():
        assert paths[name]["loss"] == path["loss"]
        mended, naive = (paths[f"{one} + repair"]["loss"] for one in (name, "none"))
        assert mended[0] == pytest.approx(naive[0], rel=1e-5)  # an end is the same network for all
        assert mended[-1] == pytest.approx(naive[-1], rel=1e-5)
        assert mended[2] != pytest.approx(path["loss"][2], rel=1e-3)
    hint = "--repair re-estimates them"
    assert any(hint in note for note in plain["notes"])
    assert not any(hint in note for note in both["notes"])


@pytest.mark.slow
def test_repair_by_the_command_line_is_that_of_merge(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    how = given(tmp_path, "plain_cnn_bn")
    told = deepalign("barrier", a, b, *how, "-m", "none", *POINTS, "--repair", "--json").json
    merged = tmp_path / "merged.safetensors"
    model, data = how[:4], how[5]
    assert deepalign("merge", a, b, *model, "-m", "none", "--repair", data, "-o", merged).code == 0

    module, (x, labels) = nets.ALL["plain_cnn_bn"]()[0], examples(tmp_path / "data.npz")
    loss, share = measured(module, tensors(merged), x, labels)
    path = by_method(told)["none + repair"]
    assert path["midpoint_loss"] == pytest.approx(loss, rel=1e-5)
    assert path["midpoint_accuracy"] == share


@pytest.mark.slow
def test_a_planted_network_has_no_barrier(tmp_path: Path) -> None:
    a, b = same_function(tmp_path)
    told = deepalign("barrier", a, b, *taught(tmp_path), *WEIGHTS, *POINTS, "--json").json

    assert by_method(told)["weights"]["barrier"] < 1e-6
    assert by_method(told)["none"]["barrier"] > 0.01


# --- without data ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_data_only_the_weights_speak(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    shown = deepalign("barrier", a, b, *WEIGHTS)
    told = deepalign("barrier", a, b, *WEIGHTS, "--json").json

    assert shown.code == 0
    assert shown.out.startswith("From the weights alone, without data.")
    assert "estimate: " in shown.out
    assert (told["alphas"], told["paths"], told["loss"], told["data"], told["passed"]) == (
        [],
        [],
        None,
        [],
        None,
    )
    before, after = (told["weights_only"][name] for name in ("none", "weights"))
    assert after["distance_after"] < before["distance_after"] == before["distance_before"]
    own, moved = torch.load(a), torch.load(b)
    layer = next(one for one in before["layers"] if one["name"] == "fc2.weight")
    w, v = own["fc2.weight"], moved["fc2.weight"]
    apart = float((w - v).norm() / (w.norm() * v.norm()).sqrt())
    assert layer["distance"] == pytest.approx(apart, rel=1e-5)
    assert 0 < after["variance_kept_estimate"] <= 1


def test_where_no_group_of_units_exists_nothing_is_estimated(tmp_path: Path) -> None:
    a, b = (save(nn.Linear(3, 2), tmp_path / f"{name}.pt") for name in "ab")
    (tmp_path / "s.toml").write_text('[axes]\n"weight" = "2 3"\n"bias" = "2"\n')
    how = ("barrier", a, b, "--spec", tmp_path / "s.toml", *WEIGHTS)

    assert "no group of units that could move" in deepalign(*how).out
    assert "survives" not in deepalign(*how).out
    assert deepalign(*how, "--json").json["weights_only"]["none"]["variance_kept_estimate"] is None


@pytest.mark.slow
def test_without_data_the_weights_of_every_pair_speak(tmp_path: Path) -> None:
    paths = three(tmp_path)
    shown = deepalign("barrier", *paths, *WEIGHTS)
    told = deepalign("barrier", *paths, *WEIGHTS, "--json").json

    assert shown.out.count("From the weights alone") == 1
    naive = [pair["weights_only"]["none"]["distance_before"] for pair in told["pairs"]]
    assert naive[0] != naive[1]
    for path, distance in zip(paths[1:], naive, strict=True):
        assert f"\n{path.name}\n" in shown.out
        assert f"none: distance {distance:.4g} -> {distance:.4g}" in shown.out
    assert told["weights_only"] == told["pairs"][0]["weights_only"]


# --- the limit ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_limit(tmp_path: Path) -> None:
    a, b = same_function(tmp_path)
    how = ("barrier", a, b, *taught(tmp_path), "-m", "none", *POINTS)
    barrier = by_method(deepalign(*how, "--json").json)["none"]["barrier"]
    assert barrier > 0

    passed = deepalign(*how, "--max-barrier", barrier + 1e-3, "--json")
    assert (passed.code, passed.json["passed"]) == (0, True)

    failed = deepalign(*how, "--max-barrier", barrier - 1e-3, "--json")
    assert (failed.code, failed.json["passed"]) == (4, False)
    assert (failed.error["code"], len(failed.json["paths"])) == ("barrier", 1)

    shown = deepalign(*how, "--max-barrier", barrier - 1e-3, "--plot", tmp_path / "c.svg")
    assert shown.code == 4
    assert [line.split()[0] for line in shown.out.splitlines()[1:3]] == ["method", "none"]
    assert "above --max-barrier" in shown.err
    assert (tmp_path / "c.svg").exists()

    quiet = deepalign(*how, "--max-barrier", barrier - 1e-3, "-q")
    assert (quiet.code, quiet.out) == (4, "")
    assert "above --max-barrier" in quiet.err


@pytest.mark.slow
def test_the_limit_is_of_the_methods_that_were_asked_for(tmp_path: Path) -> None:
    a, b = same_function(tmp_path)  # the naive way has a barrier, the aligned one has none
    how = ("barrier", a, b, *taught(tmp_path), *POINTS, "--max-barrier", 1e-4)

    assert deepalign(*how, *WEIGHTS).code == 0
    assert deepalign(*how, *WEIGHTS, "-m", "none").code == 4
    assert deepalign(*how, *WEIGHTS, "--repair").code == 0


@pytest.mark.parametrize("limit", ["-1", "nan", "much"])
def test_a_limit_that_is_none(limit: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    refused(deepalign("barrier", a, b, *given(tmp_path), "--max-barrier", limit), 2, "--max-barrier")


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1])
def test_one_input_is_too_few(count: int, tmp_path: Path) -> None:
    refused(deepalign("barrier", *pair(tmp_path)[:count], *given(tmp_path)), 2, "" if not count else "two")


def test_networks_that_do_not_fit_one_another(tmp_path: Path) -> None:
    a, other = pair(tmp_path)[0], save(nets.named_mlp((12, 18, 20, 5)), tmp_path / "c.pt")
    refused(deepalign("barrier", a, other, *given(tmp_path)), 3, "fc1.weight")


# --- losses that are no numbers -------------------------------------------------------------------


def test_a_loss_that_is_no_number_is_shown_and_fails(tmp_path: Path) -> None:
    a, b = overflowing(tmp_path)
    how = ("barrier", a, b, *given(tmp_path), "-m", "none", *POINTS)
    shown = deepalign(*how, "--csv", tmp_path / "c.csv")
    told = deepalign(*how, "--json", "--max-barrier", 9)

    assert shown.code == 1
    assert [line.split()[:2] for line in shown.out.splitlines() if line.startswith("none")] == [
        ["none", "nan"]
    ]
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "the loss of 'none' is not finite at alpha 0.25 on data.npz, test" in errors[0]
    assert "Traceback" not in shown.err
    rows = [float(row["loss"]) for row in csv.DictReader(io.StringIO((tmp_path / "c.csv").read_text()))]
    assert [math.isfinite(loss) for loss in rows] == [True, False, False, False, True]

    assert (told.code, told.error["code"]) == (1, "loss")
    (path,) = told.json["paths"]
    assert [loss is None for loss in path["loss"]] == [False, True, True, True, False]
    assert (path["barrier"], told.json["passed"]) == (None, False)


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair(tmp_path)
    how = ("barrier", a, b, *given(tmp_path), "-m", "none", *POINTS)
    before, runs = set(listing(tmp_path)), iter(range(3))
    real = evaluating.tally

    def stopped(*args: Any) -> None:
        if next(runs, None) is None:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(evaluating, "tally", stopped)
    done = deepalign(*how, "--plot", tmp_path / "c.png", "--csv", tmp_path / "c.csv")

    assert (done.code, done.out, done.err.splitlines()[-1]) == (130, "", "error: Interrupted")
    assert {path for path in listing(tmp_path) if "__pycache__" not in path} == before


@pytest.mark.slow
def test_sigint_ends_it_with_130(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    (tmp_path / "slow.py").write_text(
        "import os, signal\n\n"
        "calls = iter(range(3))\n\n\n"
        "def loss(out, labels):\n"
        "    if next(calls, None) is None:\n        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return out.mean()\n"
    )
    how = ["barrier", a, b, *given(tmp_path), "-m", "none", "--loss", f"{tmp_path / 'slow.py'}:loss"]
    before = set(listing(tmp_path))
    done = interrupted(*how, "--csv", tmp_path / "c.csv")

    assert (done.code, done.out, done.err.splitlines()[-1]) == (130, "", "error: Interrupted")
    assert {path for path in listing(tmp_path) if "__pycache__" not in path} == before
