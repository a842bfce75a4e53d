"""`deepalign landscape`: the loss on a plane, what is drawn of it, and what is refused."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.measure.paths import tally
from deepalign_cli.operations import landscape as operation
from tests import nets
from tests.cli.subjects import (
    WEIGHTS,
    by_method,
    data_set,
    examples,
    factory,
    given,
    measured,
    overflowing,
    refused,
)
from tests.operations.making import deepalign, listing, network, pair, planted, save, tensors

POINTS = ("--points", 3)


def three(folder: Path, kind: str = "named_mlp") -> list[Path]:
    return [save(network(kind, seed), folder / f"{name}.pt") for seed, name in enumerate("abc")]


def at(told: dict[str, Any], weights: list[dict[str, Tensor]], i: int, j: int) -> dict[str, Tensor]:
    """The network at a point of the grid, from its coordinates alone: all tensors as one long vector."""
    flat = [torch.cat([w.double().flatten() for w in state.values()]) for state in weights]
    u, v = flat[1] - flat[0], flat[2] - flat[0]
    first = u / u.norm()
    second = v - (v @ first) * first
    second = second / second.norm()
    moved = flat[0] + told["xs"][j] * first + told["ys"][i] * second
    like = weights[0].items()
    parts = moved.split([w.numel() for _, w in like])
    return {
        n: part.reshape(w.shape).to(w.dtype) for (n, w), part in zip(weights[0].items(), parts, strict=True)
    }


@pytest.mark.slow
def test_every_point_is_the_loss_of_its_network(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "plane.svg"
    done = deepalign("landscape", a, b, *given(tmp_path), *WEIGHTS, "--points", 5, "-o", out, "--json")
    told = done.json

    assert (done.code, done.err) == (0, "")
    assert {
        "schema", "command", "output", "method", "xs", "ys", "losses", "accuracies", "places", "paths", "at",
        "loss", "data", "seconds",
    } <= set(told)  # fmt: skip
    assert (told["command"], told["output"], told["method"]) == ("landscape", str(out), "weights")
    assert (len(told["losses"]), len(told["losses"][0])) == (len(told["ys"]), len(told["xs"]))
    assert max(len(told["ys"]), len(told["xs"])) == 5

    deepalign("align", a, b, *WEIGHTS, "-o", tmp_path / "moved")
    corners = [dict(torch.load(a)), tensors(tmp_path / "moved"), dict(torch.load(b))]
    corners = [{name: state[name] for name in corners[0]} for state in corners]
    module, (x, labels) = nets.ALL["named_mlp"]()[0], examples(tmp_path / "data.npz")
    for i in range(len(told["ys"])):
        for j in range(len(told["xs"])):
            loss, share = measured(module, at(told, corners, i, j), x, labels)
            assert told["losses"][i][j] == pytest.approx(loss, rel=1e-4)
            assert told["accuracies"][i][j] == pytest.approx(share, abs=1.01 / len(x))
    for place, state in zip(told["places"], corners, strict=True):
        loss, _ = measured(module, state, x, labels)
        assert told["at"][place] == pytest.approx(loss, rel=1e-5)
    assert list(told["places"]) == ["A: a.pt", "aligned B: b.pt", "B as it is"]
    assert out.read_text().startswith("<?xml")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["named_mlp", "plain_cnn"])
def test_its_networks_have_the_losses_that_barrier_has(kind: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path, kind)
    how = (*given(tmp_path, kind), *WEIGHTS)
    plane = deepalign("landscape", a, b, *how, *POINTS, "-o", tmp_path / "p.svg", "--json").json
    curve = by_method(deepalign("barrier", a, b, *how, *POINTS, "--json").json)["weights"]

    ends = [plane["at"][place] for place in ("A: a.pt", "aligned B: b.pt")]
    assert ends == pytest.approx([curve["loss"][0], curve["loss"][-1]], rel=1e-6)
    assert plane["at"]["B as it is"] == pytest.approx(ends[1], rel=1e-5)  # the same function
    assert plane["places"]["aligned B: b.pt"][0] == pytest.approx(curve["distance_after"], rel=1e-5)


@pytest.mark.slow
def test_three_networks_are_taken_as_they_are(tmp_path: Path) -> None:
    a, b, c = three(tmp_path)
    told = deepalign(
        "landscape", a, b, c, *given(tmp_path), *POINTS, "-o", tmp_path / "p.html", "--json"
    ).json

    module, (x, labels) = nets.ALL["named_mlp"]()[0], examples(tmp_path / "data.npz")
    assert told["method"] is None
    assert list(told["places"]) == ["A: a.pt", "B: b.pt", "C: c.pt"]
    for place, path in zip(told["places"], (a, b, c), strict=True):
        loss, _ = measured(module, torch.load(path), x, labels)
        assert told["at"][place] == pytest.approx(loss, rel=1e-5)
    assert (tmp_path / "p.html").read_text()[:15].lower() == "<!doctype html>"


@pytest.mark.slow
def test_batchnorm_is_settled_at_every_point(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    how = given(tmp_path, "plain_cnn_bn")
    done = deepalign("landscape", a, b, *how, *WEIGHTS, *POINTS, "-o", tmp_path / "p.svg", "--json")
    assert any("BatchNorm was re-estimated on training examples" in note for note in done.json["notes"])

    module, (x, labels) = nets.ALL["plain_cnn_bn"]()[0], examples(tmp_path / "data.npz")
    module.load_state_dict(torch.load(a))
    for norm in (part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0  # what one batch in training mode leaves are its own statistics
    with torch.no_grad():
        module.train()(examples(tmp_path / "data.npz", "train")[0])
    loss, _ = measured(module, module.state_dict(), x, labels)
    assert done.json["at"]["A: a.pt"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.slow
def test_rows_and_a_saved_alignment(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept, rows = tmp_path / "kept", tmp_path / "rows.csv"
    deepalign("align", a, b, *WEIGHTS, "-o", tmp_path / "moved", "--save-alignment", kept)
    how = ("landscape", a, b, *given(tmp_path), *POINTS, "--force", "-o", tmp_path / "p.svg", "--json")
    told = deepalign(*how, "--alignment", kept, "--csv", rows).json
    fresh = deepalign(*how, *WEIGHTS).json

    assert told["losses"] == fresh["losses"]
    assert told["method"] == "weights"
    found = list(csv.DictReader(io.StringIO(rows.read_text())))
    assert list(found[0]) == ["x", "y", "loss", "accuracy"]
    places = [(x, y) for y in told["ys"] for x in told["xs"]]
    assert [(float(row["x"]), float(row["y"])) for row in found] == places
    assert [float(row["loss"]) for row in found] == [loss for line in told["losses"] for loss in line]
    assert [float(row["accuracy"]) for row in found] == [s for line in told["accuracies"] for s in line]


@pytest.mark.slow
def test_the_table_and_the_default_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = deepalign("landscape", a, b, *given(tmp_path), *WEIGHTS, *POINTS)

    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()] == [
        "data.npz,", "network", "A:", "aligned", "B", "wrote",
    ]  # fmt: skip
    assert Path("a.landscape.png").read_bytes().startswith(b"\x89PNG")
    refused(deepalign("landscape", a, b, *given(tmp_path), *WEIGHTS), 2, "a.landscape.png exists")
    forced = deepalign("landscape", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "--force", "-q")
    assert (forced.code, forced.out, forced.err) == (0, "a.landscape.png\n", "")


@pytest.mark.slow
def test_a_thousand_examples_unless_more_are_asked_for(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    how = ("--model", factory(tmp_path), "--data", data_set(tmp_path, count=1200))
    for more, count in (((), "1,000"), (("--limit", 1100), "1,100"), (("--limit", 7), "7")):
        told = deepalign(
            "landscape", a, b, *how, *WEIGHTS, *POINTS, *more, "-o", tmp_path / "p.svg", "--json", "--force"
        ).json
        assert told["data"] == f"data.npz, test, {count} examples"


@pytest.mark.slow
def test_losses_that_are_no_numbers_are_drawn_as_such(tmp_path: Path) -> None:
    a, b = overflowing(tmp_path)
    state = {n: torch.zeros_like(w) for n, w in torch.load(a).items()}
    state["fc1.bias"] += 1e37
    c = save(state, tmp_path / "c.pt")
    done = deepalign("landscape", a, b, c, *given(tmp_path), *POINTS, "-o", tmp_path / "p.svg", "--json")

    assert done.code == 0
    losses = [loss for line in done.json["losses"] for loss in line]
    assert None in losses
    assert any(losses)
    assert all(isinstance(loss, float) for loss in done.json["at"].values())
    assert (tmp_path / "p.svg").exists()


@pytest.mark.parametrize(
    ("count", "args", "message"),
    [
        (1, [], "two or three checkpoints"),
        (4, [], "two or three checkpoints"),
        (2, ["-m", "none"], "-m none moves nothing"),
        (2, ["--split", "test", "--split", "train"], "one split of the data"),
        (2, ["--points", "2"], "--points"),
        (2, ["-o", "p.jpg"], "deepalign cannot draw"),
        (2, ["-m", "weights", "--sketches", "2"], "makes no use of --sketches"),
        (3, ["-m", "weights"], "so --method has no effect"),
        (3, ["--seed", "1"], "so --seed has no effect"),
        (3, ["--alignment", "kept"], "so --alignment has no effect"),
        (2, ["-o", "p.svg", "--csv", "p.svg"], "would hold both picture and rows"),
        (2, ["-o", "data.npz", "--force"], "is one of the inputs"),
        (2, ["-o", "p.svg", "--csv", "data.npz", "--force"], "is one of the inputs"),
        (2, ["-o", "p.svg", "--csv", "factories.py", "--force"], "is one of the inputs"),
    ],
)
def test_landscape_refuses(
    count: int, args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [*three(tmp_path), save(network("named_mlp", 3), tmp_path / "d.pt")][:count]
    how = given(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(operation, "landscape_files", lambda *_: pytest.fail("it began to work"))
    before = listing(tmp_path)
    refused(deepalign("landscape", *paths, *how, *args), 2, message)
    assert listing(tmp_path) == before


def test_data_are_needed(tmp_path: Path) -> None:
    refused(deepalign("landscape", *pair(tmp_path)), 2, "landscape needs data to run the networks on")


@pytest.mark.slow
def test_networks_on_one_line_span_no_plane(tmp_path: Path) -> None:
    a = save(network("named_mlp", 0), tmp_path / "a.pt")
    refused(deepalign("landscape", a, a, *given(tmp_path), "-o", tmp_path / "p.svg"), 3, "on one line")
    b = tmp_path / "b.pt"
    planted(a, b)  # aligned B is A
    how = ("landscape", a, b, *given(tmp_path), *WEIGHTS, "-o", tmp_path / "p.svg")
    refused(deepalign(*how), 3, "on one line")
    assert not (tmp_path / "p.svg").exists()


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair(tmp_path)
    how = ("landscape", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "-o", tmp_path / "p.png")
    before, runs = set(listing(tmp_path)), iter(range(4))

    def stopped(*args: Any) -> None:
        if next(runs, None) is None:
            raise KeyboardInterrupt
        tally(*args)

    monkeypatch.setattr("deepalign_cli.measure.plane.tally", stopped)
    done = deepalign(*how)

    assert (done.code, done.out, done.err.splitlines()[-1]) == (130, "", "error: Interrupted")
    assert {path for path in listing(tmp_path) if "__pycache__" not in path} == before


@pytest.mark.slow
def test_the_plane_is_that_of_the_aligned_network(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    told = deepalign(
        "landscape", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "-o", tmp_path / "p.svg", "--json"
    ).json
    own, other = (dict(open_checkpoint(path)) for path in (a, b))
    apart = math.sqrt(sum(float((own[n] - other[n]).square().sum()) for n in own))

    assert math.hypot(*told["places"]["B as it is"]) == pytest.approx(apart, rel=1e-5)
