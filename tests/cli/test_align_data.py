"""`deepalign align` with methods that use data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import nets
from tests.cli.subjects import data_set, given, refused
from tests.operations.making import apart, deepalign, metadata, network, pair, planted, save, tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("named_mlp", ["-m", "activations"]),
        ("plain_cnn_bn", ["-m", "dual", "--share", 0.3]),
        ("cifar_resnet", ["--refine", "activations", "--sketches", 1]),
    ],
)
def test_with_data_too_the_output_is_the_same_function(kind: str, how: list[object], tmp_path: Path) -> None:
    a, b = pair(tmp_path, kind)
    out, seen = tmp_path / "out.safetensors", given(tmp_path, kind)
    done = deepalign("align", a, b, "-o", out, *how, *seen, "--json")

    assert (done.code, done.err) == (0, "")
    assert sum(group["moved"] for group in done.json["groups"].values()) > 0
    module, shape = nets.ALL[kind]()
    assert apart(module.eval(), b, out, shape) <= 1e-5
    assert apart(module, a, out, shape) > 0.01
    told = metadata(out)
    assert told["deepalign.method"] == done.json["method"] == (how[1] if how[0] == "-m" else "deepalign")
    assert told.get("deepalign.share") == ("0.3" if "dual" in how else None)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method"), [("named_mlp", "dual"), ("plain_cnn_bn", "activations")])
def test_data_undo_a_planted_permutation(kind: str, method: str, tmp_path: Path) -> None:
    a, b = save(network(kind, 0), tmp_path / "a.pt"), tmp_path / "b.pt"
    planted(a, b)
    how = (*given(tmp_path, kind)[:4], "--data", data_set(tmp_path, kind, 60))
    done = deepalign("align", a, b, "-m", method, *how, "-o", tmp_path / "o.safetensors", "--json")

    assert done.json["distance_after"] == 0
    state = torch.load(a)
    assert all(w.equal(state[name]) for name, w in tensors(tmp_path / "o.safetensors").items())


@pytest.mark.slow
def test_an_alignment_by_data_is_kept_and_used_without_them(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept, out = tmp_path / "kept", tmp_path / "o"
    deepalign("align", a, b, "-m", "activations", *given(tmp_path), "-o", out, "--save-alignment", kept)
    assert deepalign("align", a, b, "--alignment", kept, "-o", tmp_path / "again").code == 0

    again = tensors(tmp_path / "again")
    assert all(w.equal(again[name]) for name, w in tensors(out).items())
    assert metadata(tmp_path / "again")["deepalign.method"] == "activations"


@pytest.mark.slow
def test_several_networks_by_data(tmp_path: Path) -> None:
    a, b, c = (save(network("named_mlp", seed), tmp_path / f"{name}.pt") for seed, name in enumerate("abc"))
    how = ("-m", "activations", *given(tmp_path))
    deepalign("align", a, b, c, *how, "-o", tmp_path / "all")
    for path in (b, c):
        deepalign("align", a, path, *how, "-o", tmp_path / "one", "--force")
        alone = tensors(tmp_path / "one")
        together = tensors(tmp_path / "all" / f"{path.stem}.aligned.safetensors")
        assert all(w.equal(together[name]) for name, w in alone.items())


HIDDEN = """
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 16), nn.Linear(16, 20), nn.Linear(20, 5)

    def forward(self, x):
        x = self.fc2(self.fc1(x).relu()).relu()
        return functional.linear(x, self.fc3.weight * 1, self.fc3.bias)  # not the very tensor: it is not seen
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["activations", "dual"])
def test_groups_that_no_layer_was_seen_to_read_are_named(method: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(HIDDEN)
    a, b = pair(tmp_path)
    own = ("-m", method, "--model", f"{tmp_path / 'net.py'}:Net", "--data", data_set(tmp_path), "--json")
    note = "no layer was seen to read fc2: matched by weights"
    for told in (
        deepalign("align", a, b, *own, "-o", tmp_path / "o.safetensors").json,
        deepalign("merge", a, b, *own, "-o", tmp_path / "m.safetensors").json,
        deepalign("barrier", a, b, *own, "--points", 3).json,
    ):
        rows = told.get("paths", [told])
        assert [row["unread"] for row in rows if row["method"] == method] == [["fc2"]]
        assert any(note in line for line in told["notes"])
    how = (*own[:2], *given(tmp_path), "--json", "-o", tmp_path / "s.safetensors")
    seen = deepalign("align", a, b, *how).json
    assert seen["unread"] == []
    assert not any("no layer was seen" in line for line in seen.get("notes", ()))


@pytest.mark.slow
def test_samples_are_what_units_are_matched_on(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    how = ("-m", "activations", *given(tmp_path)[:4], "--data", data_set(tmp_path, count=200))
    few, many, same = (tmp_path / name for name in ("few", "many", "same"))
    deepalign("align", a, b, *how, "--samples", 3, "-o", few)
    deepalign("align", a, b, *how, "-o", many)
    deepalign("align", a, b, *how, "-o", same, "--batch-size", 64)

    moved = [tensors(path)["fc2.weight"] for path in (few, many, same)]
    assert not moved[0].equal(moved[1])
    assert moved[1].equal(moved[2])


def test_data_that_make_units_overflow_are_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    state = {name: w * 1e30 for name, w in torch.load(b).items()}
    torch.save(state, b)
    done = deepalign("align", a, b, "-m", "activations", *given(tmp_path), "-o", tmp_path / "o")

    refused(done, 3, "NaN or Inf")
    assert not (tmp_path / "o").exists()
