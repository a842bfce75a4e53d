"""`deepalign merge` with data: repair, and the curve on the card of a folder."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import nets
from tests.cli.subjects import (
    WEIGHTS,
    by_method,
    data_set,
    examples,
    factory,
    given,
    measured,
    refused,
    same_function,
    taught,
)
from tests.cli.test_merge import states, three
from tests.operations.making import deepalign, metadata, network, pair, planted, save, tensors

RELU = ["--activation", "relu"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "dtype"), [("plain_cnn_bn", torch.float32), ("named_mlp", torch.bfloat16)])
def test_repair_changes_statistics_and_nothing_of_the_layout(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    a, b = pair(tmp_path, kind, dtype)
    plain, mended, model = (
        tmp_path / "plain.safetensors",
        tmp_path / "mended.safetensors",
        given(tmp_path, kind)[:4],
    )
    how = ("merge", a, b, "-m", "none", "--alpha", 0.3)
    deepalign(*how, "-o", plain)
    done = deepalign(*how, *model, "--repair", tmp_path / "data.npz", "-o", mended, "--json")

    assert (done.code, done.err) == (0, "")
    before, after = tensors(plain), tensors(mended)
    layouts = [{name: (w.shape, w.dtype) for name, w in state.items()} for state in (before, after)]
    assert layouts[0] == layouts[1]
    changed = {name for name in before if not before[name].equal(after[name])}
    norms = {name for name in before if "running_" in name}
    assert norms <= changed
    assert {"fc1.weight"} <= changed or norms
    (note,) = [note for note in done.json["notes"] if note.startswith("repaired on ")]
    assert note.startswith("repaired on data.npz, train, 24 examples: ")
    assert (f"the statistics of {len(norms) // 2} BatchNorm layers were re-estimated" in note) == bool(norms)
    assert not any("statistics were averaged" in note for note in done.json["notes"])
    assert metadata(mended)["deepalign.repair"] == "data.npz, train, 24 examples"
    assert metadata(mended)["deepalign.repair.batch_size"] == "24"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain_cnn_bn"])
def test_repaired_batchnorm_holds_the_statistics_of_the_written_network(kind: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path, kind)
    model, out = given(tmp_path, kind)[:4], tmp_path / "m.safetensors"
    deepalign("merge", a, b, "-m", "none", *model, "--repair", tmp_path / "data.npz", "-o", out)

    made, module = tensors(out), nets.ALL[kind]()[0]
    module.load_state_dict(made)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # what one batch in training mode leaves are its own statistics
    with torch.no_grad():
        module.train()(examples(tmp_path / "data.npz", "train")[0])
    for name, w in module.state_dict().items():
        if "running_" in name:
            torch.testing.assert_close(made[name], w, rtol=1e-3, atol=1e-4)


FROZEN = """
import torch
from torch import nn

class FrozenNorm(nn.Module):
    def __init__(self, n):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(n))

    def forward(self, x):
        return (x - self.running_mean) * self.weight / (self.running_var + 1e-5).sqrt() + self.bias

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(12, 16), FrozenNorm(16)
        self.fc2, self.fc3 = nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.fc3(self.fc2(self.bn1(self.fc1(x)).relu()).relu())
"""


@pytest.mark.slow
def test_frozen_norms_stay_averaged_and_no_repair_is_advised(tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(FROZEN, scope)
    (tmp_path / "net.py").write_text(FROZEN)
    a, b = (save(scope["Net"](), tmp_path / f"{name}.pt") for name in "ab")
    data = data_set(tmp_path)
    how = ("-m", "none", "--model", f"{tmp_path / 'net.py'}:Net", "--json")
    merged = deepalign("merge", a, b, *how, "--repair", data, "-o", tmp_path / "m.safetensors").json["notes"]
    paths = [
        deepalign("barrier", a, b, *how, "--data", data, "--points", 3, *more) for more in ([], ["--repair"])
    ]
    for notes in (merged, *(path.json["notes"] for path in paths)):
        assert sum("frozen norms" in note and "2, such as 'bn1.running_mean'" in note for note in notes) == 1
        assert not any("--repair" in note or "BatchNorm is re-estimated" in note for note in notes)
    assert any("layers were brought to their parents' statistics" in note for note in merged)


def test_repair_of_three_networks_uses_their_shares(tmp_path: Path) -> None:
    paths = three(tmp_path)
    model, out = given(tmp_path)[:4], tmp_path / "m.safetensors"
    how = ("-m", "none", *model, "--repair", tmp_path / "data.npz")
    assert deepalign("merge", *paths, "--weights", "2,1,1", *how, "-o", out).code == 0

    x, _ = examples(tmp_path / "data.npz", "train")
    made = tensors(out)
    goal = sum(
        share * (x @ state["fc1.weight"].T).std(0, correction=0)
        for share, state in zip((0.5, 0.25, 0.25), states(paths), strict=True)
    )
    torch.testing.assert_close((x @ made["fc1.weight"].T).std(0, correction=0), goal, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_was_repaired_is_better(tmp_path: Path) -> None:
    """Two networks whose naive average has lost its variance, on labels that the first gives."""
    a, b = tmp_path / "a.pt", tmp_path / "b.pt"
    teacher = network("plain_cnn_bn", 0)
    x, _ = examples(data_set(tmp_path, "plain_cnn_bn", count=60), "train")
    for norm in (part for part in teacher.modules() if isinstance(part, nn.BatchNorm2d)):
        norm.momentum = 1.0
    teacher.train()(x)  # its statistics are those of the data, as training leaves them
    planted(save(teacher.eval(), a), b)
    how = ("--model", factory(tmp_path), "--model-arg", "kind=plain_cnn_bn")
    data = data_set(tmp_path, "plain_cnn_bn", count=60, teacher=teacher)
    losses = []
    for name, more in (("plain.safetensors", ()), ("mended.safetensors", ("--repair", data, *how))):
        deepalign("merge", a, b, "-m", "none", *more, "-o", tmp_path / name)
        module, (x, labels) = nets.ALL["plain_cnn_bn"]()[0], examples(data)
        losses.append(measured(module, tensors(tmp_path / name), x, labels)[0])

    assert losses[1] < losses[0]


def test_repair_without_examples_to_train_takes_what_there_is(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    save({"inputs": torch.randn(9, 12), "labels": torch.arange(9) % 5}, tmp_path / "d.safetensors")
    how = ("--model", factory(tmp_path), "--repair", tmp_path / "d.safetensors", "--samples", 7)
    told = deepalign("merge", a, b, "-m", "none", *how, "-o", tmp_path / "m.safetensors", "--json").json

    assert any(note.startswith("repaired on d.safetensors, 7 examples") for note in told["notes"])


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["-m", "none", "--data", "data.npz"], 2, "-m none makes no use of --data"),
        (["-m", "weights", "--data", "data.npz"], 2, "-m weights makes no use of --data"),
        (["--refine", "none", "--data", "data.npz"], 2, "makes no use of --data"),
        (["-m", "activations"], 2, "-m activations needs data"),
        (["-m", "none", "--limit", "3"], 2, "without --data, --limit has no effect"),
        (
            ["-m", "none", "--repair", "gone.npz", "--activation", "relu"],
            2,
            "there is no data set 'gone.npz'",
        ),
        (["-m", "none", "--repair", "data.npz", "--model", "factories.py:raises"], 1, "raised RuntimeError"),
        (["-m", "none", "--repair", "data.npz", "--model", "factories.py:wider"], 3, "fc1.weight"),
        (
            ["-m", "none", "--repair", "data.npz", "--activation", "relu", "--split", "dev"],
            2,
            "has no split 'dev'",
        ),
    ],
)
def test_data_that_are_of_no_use(
    args: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(tmp_path)
    given(tmp_path)
    monkeypatch.chdir(tmp_path)
    refused(deepalign("merge", a, b, *args, "-o", "m.safetensors"), code, message)
    assert not Path("m.safetensors").exists()


@pytest.mark.slow
def test_the_card_has_the_curve_of_the_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same_function(tmp_path)
    taught(tmp_path)
    monkeypatch.chdir(tmp_path)
    how = (*WEIGHTS, "--model", "factories.py:make", "--data", "data.npz")
    done = deepalign("merge", "a.pt", "b.pt", *how, "-o", "out/", "--json")

    assert (done.code, done.err) == (0, "")
    assert set(done.json["files"]) == {"model.safetensors", "curve.png", "README.md"}
    assert Path("out/curve.png").read_bytes().startswith(b"\x89PNG")
    text = Path("out/README.md").read_text()
    assert "(<curve.png>)" in text
    told = by_method(deepalign("barrier", "a.pt", "b.pt", *how, "--json").json)
    assert told["none"]["barrier"] > 0.1
    for name in ("none", "weights"):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` | `data.npz, test")]
        cells = [float(cell.strip(" %")) for cell in row.split("|")[3:-1]]
        figures = [told[name][key] for key in ("barrier", "midpoint_loss", "midpoint_accuracy")]
        assert [cells[0], cells[-2], cells[-1] / 100] == pytest.approx(figures, rel=1e-3, abs=1e-4)

    command = next(line for line in text.splitlines() if line.startswith("deepalign merge "))
    made = Path("out/model.safetensors").read_bytes()
    assert deepalign(*shlex.split(command)[1:], "--force").code == 0
    assert (Path("out/model.safetensors").read_bytes(), Path("out/README.md").read_text()) == (made, text)


@pytest.mark.slow
def test_what_is_said_of_the_measurement_and_of_the_merge_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_function(tmp_path)
    taught(tmp_path)
    monkeypatch.chdir(tmp_path)
    how = ("--model", "factories.py:make", "--repair", "data.npz")
    notes = deepalign("merge", "a.pt", "b.pt", *how, "-o", "out/", "--json").json["notes"]

    for start in ("run as ", "loss: ", "universal-v1"):
        assert len([note for note in notes if start in note]) == 1, start
    card = Path("out/README.md").read_text()
    assert "- run as " in card
    assert "- loss: cross-entropy" in card


@pytest.mark.slow
def test_the_card_of_a_repaired_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same_function(tmp_path)
    taught(tmp_path)
    monkeypatch.chdir(tmp_path)
    how = ("-m", "none", "--model", "factories.py:make", "--repair", "data.npz")
    assert deepalign("merge", "a.pt", "b.pt", *how, "-o", "out/").code == 0

    text = Path("out/README.md").read_text()
    rows = re.findall(r"(?m)^\| `(none[^`]*)` \| `data.npz, test", text)
    assert rows == ["none", "none + repair"]
    assert "| repair | `data.npz, train, 24 examples` |" in text
    assert "| repair.batch\\_size | `24` |" in text
    command = next(line for line in text.splitlines() if line.startswith("deepalign merge "))
    made = Path("out/model.safetensors").read_bytes()
    assert deepalign(*shlex.split(command)[1:], "--force").code == 0
    assert (Path("out/model.safetensors").read_bytes(), Path("out/README.md").read_text()) == (made, text)


@pytest.mark.slow
def test_a_card_without_what_draws_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair(tmp_path)
    given(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    how = (*WEIGHTS, "--model", "factories.py:make", "--data", "data.npz", "-o", "out/", "--json")
    done = deepalign("merge", "a.pt", "b.pt", *how)

    assert (done.code, done.json["files"]) == (0, ["model.safetensors", "README.md"])
    assert any("pip install 'deepalign[plot]'" in note for note in done.json["notes"])


@pytest.mark.parametrize("command", ["align", "merge"])
def test_no_output_takes_the_place_of_what_is_read(command: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path, "named_mlp")
    how = [str(word) for word in given(tmp_path, "named_mlp")]
    data, code = tmp_path / "data.npz", tmp_path / "factories.py"
    kept = data.read_bytes(), code.read_bytes()
    more = ["--repair", data] if command == "merge" else []

    for out in (data, code):
        done = deepalign(command, a, b, *how, *more, "-o", out, "--force")
        assert (done.code, done.out) == (2, "")
        assert "is one of the inputs" in done.err
    assert (data.read_bytes(), code.read_bytes()) == kept


def test_a_folder_that_may_not_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "named_mlp")
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("mine")

    done = deepalign("merge", a, b, *given(tmp_path, "named_mlp"), "-o", f"{out}/")

    assert (done.code, done.out) == (2, "")
    assert "exists" in done.err
    assert "note:" not in done.err
    assert (out / "README.md").read_text() == "mine"
