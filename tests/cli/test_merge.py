from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.operations.making import deepalign, listing, metadata, network, pair, save, sha256, tensors


def three(folder: Path, kind: str = "named_mlp") -> list[Path]:
    return [save(network(kind, seed), folder / f"{name}.pt") for seed, name in enumerate("abc")]


def states(paths: list[Path]) -> list[dict[str, Tensor]]:
    return [dict(torch.load(path)) for path in paths]


@pytest.mark.parametrize("alpha", [None, 0.0, 0.3, 1.0])
def test_the_merge_is_the_point_on_the_line(alpha: float | None, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    deepalign("align", a, b, "-o", tmp_path / "aligned")
    given = [] if alpha is None else ["--alpha", alpha]
    done = deepalign("merge", a, b, *given, "-o", tmp_path / "m.safetensors", "--json")

    share = 0.5 if alpha is None else alpha
    own, other, made = torch.load(a), tensors(tmp_path / "aligned"), tensors(tmp_path / "m.safetensors")
    for name, w in made.items():
        torch.testing.assert_close(w, (1 - share) * own[name] + share * other[name])
        assert share != 0 or w.equal(own[name])
        assert share != 1 or w.equal(other[name])
    assert done.json["alpha"] == share
    assert "weights" not in done.json


@pytest.mark.slow
def test_json_has_what_scripts_rely_on(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    default = deepalign("merge", a, b, "-o", tmp_path / "o.safetensors", "--json").json
    told = deepalign("merge", a, b, "-m", "weights", "-o", tmp_path / "m.safetensors", "--json").json

    assert set(told) == {
        "schema", "command", "output", "method", "alpha", "combine", "seconds",
        "distance_before", "distance_after", "groups", "basis", "assumptions", "notes",
    }  # fmt: skip
    assert (told["schema"], told["command"], told["output"]) == (1, "merge", str(tmp_path / "m.safetensors"))
    assert set(default) == {*told, "network", "sketches", "refine", "kept", "why", "notes"}
    assert isinstance(told["distance_before"], float)
    assert all(set(group) == {"size", "moved"} for group in told["groups"].values())


@pytest.mark.slow
def test_the_making_is_in_the_metadata(tmp_path: Path) -> None:
    paths = three(tmp_path)
    deepalign("merge", *paths, "--weights", "2,1,1", "-o", tmp_path / "m.safetensors")

    told = metadata(tmp_path / "m.safetensors")
    assert [told[f"deepalign.sha256.{i}"] for i in range(3)] == [sha256(path) for path in paths]
    assert told["deepalign.command"] == "merge"
    assert told["deepalign.weights"] == "[0.5, 0.25, 0.25]"
    assert told["deepalign.combine"] == "linear"


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True])
def test_three_inputs_are_weighted_and_each_is_aligned_to_the_first(kept: bool, tmp_path: Path) -> None:
    a, b, c = three(tmp_path)
    for path in (b, c):
        deepalign("align", a, path, "-o", f"{path}.safetensors", "--save-alignment", f"{path}.kept")
    use = ["--alignment", f"{b}.kept", "--alignment", f"{c}.kept"] if kept else []
    done = deepalign("merge", a, b, c, "--weights", "2,1,1", *use, "-o", tmp_path / "m.safetensors", "--json")

    assert done.code == 0
    assert done.json["weights"] == [2, 1, 1]
    assert len(done.json["distance_before"]) == len(done.json["distance_after"]) == 2
    own, second, third = torch.load(a), tensors(Path(f"{b}.safetensors")), tensors(Path(f"{c}.safetensors"))
    for name, w in tensors(tmp_path / "m.safetensors").items():
        torch.testing.assert_close(w, (2 * own[name] + second[name] + third[name]) / 4)


def test_three_inputs_are_equal_by_default(tmp_path: Path) -> None:
    paths = three(tmp_path)
    assert deepalign("merge", *paths, "-m", "none", "-o", tmp_path / "m.safetensors").code == 0

    for name, w in tensors(tmp_path / "m.safetensors").items():
        torch.testing.assert_close(w, sum(state[name] for state in states(paths)) / 3)


@pytest.mark.slow
def test_saved_alignments_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    a, b, c = three(tmp_path)
    for path in (b, c):
        deepalign("align", a, path, "-o", f"{path}.safetensors", "--save-alignment", f"{path}.kept")
    done = deepalign(
        "merge",
        a,
        b,
        c,
        "--alignment",
        f"{c}.kept",
        "--alignment",
        f"{b}.kept",
        "-o",
        tmp_path / "m.safetensors",
    )

    assert done.code == 3
    assert "another moving input" in done.err
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.slow
def test_slerp_keeps_the_length(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    deepalign("align", a, b, "-o", tmp_path / "o.safetensors")
    assert (
        deepalign("merge", a, b, "--combine", "slerp", "--alpha", 0.25, "-o", tmp_path / "m.safetensors").code
        == 0
    )

    p, q = torch.load(a)["fc2.weight"].double(), tensors(tmp_path / "o.safetensors")["fc2.weight"].double()
    angle = math.acos(float((p * q).sum() / (p.norm() * q.norm())))
    expected = (math.sin(0.75 * angle) * p + math.sin(0.25 * angle) * q) / math.sin(angle)
    torch.testing.assert_close(
        tensors(tmp_path / "m.safetensors")["fc2.weight"].double(), expected, rtol=1e-5, atol=1e-6
    )
    assert metadata(tmp_path / "m.safetensors")["deepalign.combine"] == "slerp"


@pytest.mark.slow
def test_integers_come_from_a_and_statistics_are_averaged_with_a_note(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    done = deepalign("merge", a, b, "-m", "none", "-o", tmp_path / "m.safetensors")
    told = deepalign("merge", a, b, "-m", "none", "-o", tmp_path / "m.safetensors", "--force", "--json").json
    quiet = deepalign("merge", a, b, "-m", "none", "-o", tmp_path / "m.safetensors", "--force", "-q")

    assert "BatchNorm statistics were averaged" in done.err
    assert done.out.startswith("wrote ")
    assert any("BatchNorm" in note for note in told["notes"])
    assert (quiet.out, quiet.err) == (f"{tmp_path / 'm.safetensors'}\n", "")
    own, other = torch.load(a), torch.load(b)
    made = tensors(tmp_path / "m.safetensors")
    assert made["bn1.num_batches_tracked"].equal(own["bn1.num_batches_tracked"])
    assert not own["bn1.num_batches_tracked"].equal(other["bn1.num_batches_tracked"])
    torch.testing.assert_close(
        made["bn1.running_var"], (own["bn1.running_var"] + other["bn1.running_var"]) / 2
    )


@pytest.mark.slow
def test_there_is_no_note_without_batchnorm(tmp_path: Path) -> None:
    for method in ("deepalign", "weights"):
        done = deepalign("merge", *pair(tmp_path), "-m", method, "-o", tmp_path / f"{method}.safetensors")
        assert done.code == 0
        assert "BatchNorm" not in done.err
    assert all(line.startswith("assumption: ") for line in done.err.splitlines())


@pytest.mark.slow
def test_notes_on_several_predictions_say_whose(tmp_path: Path) -> None:
    paths = three(tmp_path)
    told = deepalign("merge", *paths, "-o", tmp_path / "m.safetensors", "--json").json

    assert len(told["kept"]) == len(told["why"]) == 2
    for path in paths[1:]:
        assert any(note.startswith(f"{path.name}: universal-v1, 8 sketches") for note in told["notes"])


def test_a_network_with_itself_is_itself(tmp_path: Path) -> None:
    a, _ = pair(tmp_path)
    done = deepalign("merge", a, a, "-o", tmp_path / "m.safetensors")

    assert "already equal" in done.out
    own = torch.load(a)
    assert all(w.equal(own[name]) for name, w in tensors(tmp_path / "m.safetensors").items())


def test_half_types_are_rounded_once(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "named_mlp", torch.bfloat16)
    deepalign("merge", a, b, "-m", "none", "--alpha", 0.3, "-o", tmp_path / "m.safetensors")

    own, other = torch.load(a), torch.load(b)
    for name, w in tensors(tmp_path / "m.safetensors").items():
        assert w.equal(torch.lerp(own[name].float(), other[name].float(), 0.3).bfloat16())


@pytest.mark.parametrize(
    ("names", "args", "message"),
    [
        ("a", [], "needs at least two checkpoints"),
        ("", [], "merge needs at least two checkpoints"),
        ("ab", ["--alpha", "2"], "--alpha"),
        ("ab", ["--alpha", "-0.1"], "--alpha"),
        ("ab", ["--alpha", "nan"], "--alpha"),
        ("ab", ["--alpha", "half"], "--alpha"),
        ("abc", ["--alpha", "0.5"], "--alpha is for two inputs"),
        ("ab", ["--alpha", "0.5", "--weights", "1,1"], "--alpha is for two inputs"),
        ("abc", ["--weights", "1,1"], "2 weights are given for 3 inputs"),
        ("ab", ["--weights", "1,x"], "'1,x' is not a list of numbers"),
        ("ab", ["--weights", ""], "'' is not a list of numbers"),
        ("ab", ["--weights", "1,-1"], "not negative"),
        ("ab", ["--weights", "0,0"], "not all zero"),
        ("ab", ["--weights", "1,inf"], "finite"),
        ("ab", ["--weights", "1,nan"], "finite"),
        ("abc", ["--combine", "slerp"], "slerp combines 2 networks, not 3"),
        ("ab", ["--combine", "cubic"], "there is no combiner 'cubic'"),
        ("ab", ["--combine", "slerp", "--path", "slerp"], "--path is the old name of --combine"),
        ("ab", ["--base", "c.pt"], "--combine linear makes no use of --base"),
        ("abc", ["--save-alignment", "kept"], "a saved alignment holds one pair"),
        ("abc", ["--alignment", "kept"], "1 alignments are given for 2 moving inputs"),
        ("ab", ["--alignment", "kept", "--spec", "s.toml"], "--alignment and --spec exclude each other"),
        ("ab", ["--alignment", "kept", "--refine", "none"], "--alignment and --refine exclude each other"),
        ("ab", ["--restarts", "3"], "-m deepalign makes no use of --restarts"),
        ("ab", ["--restarts", "0"], "--restarts"),
        ("ab", ["--seed", "-1"], "--seed"),
        ("ab", ["--heads", "4"], "has no attention heads"),
        ("ab", ["--json", "-q"], "exclude each other"),
    ],
)
def test_usage_errors(
    names: str, args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    three(tmp_path)
    before = listing(tmp_path)
    done = deepalign("merge", *(f"{name}.pt" for name in names), *args, "-o", "m.safetensors")

    lines = done.err.splitlines()
    told = " ".join(lines) if "--json" in args else lines[0]
    assert (done.code, done.out) == (2, "")
    assert message in told
    assert "--json" in args or (len(lines) == 2 and lines[1].startswith("hint: "))
    assert listing(tmp_path) == before


@pytest.mark.slow
def test_a_saved_alignment_tells_the_merged_network_how_it_was_made(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "named_mlp")
    kept = tmp_path / "kept"
    deepalign("align", a, b, "-o", tmp_path / "x", "--save-alignment", kept, "--sketches", "2")
    deepalign("merge", a, b, "--alignment", kept, "-o", tmp_path / "m.safetensors")
    made = metadata(tmp_path / "m.safetensors")
    assert made["deepalign.network.name"] == "universal-v1"
    assert (made["deepalign.sketches"], made["deepalign.refine"]) == ("2", "auto")
    assert len(made["deepalign.network.sha256"]) == 64
