"""`-m rotations` on the command line and in Python, on small transformers in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import deepalign_cli as da
from deepalign_cli.models.example import Example
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing import pipeline
from tests.cli.subjects import by_method
from tests.operations.making import deepalign, metadata, save, tensors
from tests.symmetry.builders import seeded, shapes_of
from tests.tracing.quick import Quick
from tests.turning_nets import PRENORM, VOCAB, PreNorm, Rms, shaken_, tokens

FACTORY = """
from tests.turning_nets import PreNorm, Rms, tokens


def make():
    return PreNorm(Rms), (tokens(),)
"""
ROTATIONS = ("-m", "rotations", "--no-dream")


def network(seed: int) -> PreNorm:
    torch.manual_seed(seed)
    module = PreNorm(Rms)
    shaken_(module, seed)
    return module


def outputs(weights: dict[str, Tensor]) -> Tensor:
    module = network(0).double()
    module.load_state_dict({name: w.double() for name, w in weights.items()})
    with torch.no_grad():
        return module(tokens(5))


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """By how much two networks' outputs differ, relative to their spread."""
    a, b = outputs(one), outputs(other)
    return float((a - b).abs().max() / a.std())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`a`, `b` and `c`, of which `b` is `a` turned, with gains of its own; a spec, a factory, and data."""
    monkeypatch.chdir(tmp_path)
    a, c = (dict(network(seed).state_dict()) for seed in (0, 2))
    symmetry = Symmetry(parse_spec(PRENORM), shapes_of(a))
    gains = {name: c[name] for name in symmetry.spec.gains}
    g = symmetry.without_gains(gains).inverse() @ symmetry.random(seeded(1)) @ symmetry.without_gains(a)
    for name, w in {"a": a, "b": symmetry.apply(g, a), "c": c}.items():
        save(w, Path(f"{name}.safetensors"))
    Path("spec.toml").write_text(PRENORM)
    Path("net.py").write_text(FACTORY)
    arrays = {f"{s}_inputs": tokens(i, 12).numpy() for i, s in enumerate(("train", "test"))}
    arrays |= {f"{s}_labels": np.roll(arrays[f"{s}_inputs"], 1, 1) % VOCAB for s in ("train", "test")}
    np.savez("data.npz", **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    return tmp_path


def file(name: str) -> dict[str, Tensor]:
    return dict(load_file(f"{name}.safetensors"))


def test_a_turned_network_is_carried_back_and_its_file_says_how(folder: Path) -> None:
    how = [*ROTATIONS, "--spec", "spec.toml", "--save-alignment", "kept", "-o", "out.safetensors", "--json"]
    done = deepalign("align", "a.safetensors", "b.safetensors", *how)
    assert done.code == 0, done.err
    assert done.json["method"] == "rotations"
    assert done.json["distance_after"] < 1e-3 < done.json["distance_before"]
    assert done.json["groups"]["stream"] == {"size": 8, "moved": 8}
    assert all(
        torch.allclose(w, file("a")[name], atol=1e-4) for name, w in tensors(Path("out.safetensors")).items()
    )
    assert parse_spec(metadata(Path("out.safetensors"))["deepalign.spec"]) == parse_spec(PRENORM)
    again = deepalign(
        "align", "a.safetensors", "b.safetensors", "--alignment", "kept", "-o", "again.safetensors"
    )
    assert again.code == 0, again.err
    assert all(torch.equal(w, file("out")[name]) for name, w in file("again").items())


def test_networks_that_are_not_alike_stay_what_they_are(folder: Path) -> None:
    done = deepalign(
        "align", "a.safetensors", "c.safetensors", *ROTATIONS, "--spec", "spec.toml", "-o", "out.safetensors"
    )
    assert done.code == 0, done.err
    assert apart(file("c"), file("out")) < 1e-5
    assert apart(file("a"), file("out")) > 0.1
    assert torch.equal(file("out")["norm.weight"], file("a")["norm.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_files_of_other_types_are_carried_back(folder: Path, dtype: torch.dtype) -> None:
    for name in "ab":
        save({n: w.to(dtype) for n, w in file(name).items()}, Path(f"{name}.safetensors"))
    done = deepalign(
        "align", "a.safetensors", "b.safetensors", *ROTATIONS, "--spec", "spec.toml", "-o", "out.safetensors"
    )
    assert done.code == 0, done.err
    assert {w.dtype for w in file("out").values()} == {dtype}
    assert apart(file("a"), file("out")) < 0.3


def test_a_saved_alignment_moves_another_network_with_that_ones_gains(folder: Path) -> None:
    how = [*ROTATIONS, "--spec", "spec.toml", "--save-alignment", "kept", "-o", "out.safetensors"]
    assert deepalign("align", "a.safetensors", "b.safetensors", *how).code == 0
    again = ["--alignment", "kept", "-o", "other.safetensors"]
    refused = deepalign("align", "a.safetensors", "c.safetensors", *again)
    assert refused.code != 0
    assert "made for another moving input" in refused.err
    assert deepalign("align", "a.safetensors", "c.safetensors", *again, "--force").code == 0
    assert apart(file("c"), file("other")) < 1e-5


def test_a_changed_alignment_is_no_way_to_another_function(folder: Path) -> None:
    how = [*ROTATIONS, "--spec", "spec.toml", "--save-alignment", "kept", "-o", "out.safetensors"]
    assert deepalign("align", "a.safetensors", "b.safetensors", *how).code == 0
    held = load_file("kept")
    save_file(
        {n: 2 * w if n.startswith("enter/") else w for n, w in held.items()}, "kept", metadata(Path("kept"))
    )
    again = ["--alignment", "kept", "-o", "again.safetensors"]
    assert deepalign("align", "a.safetensors", "b.safetensors", *again).code == 0
    assert apart(file("b"), file("again")) < 1e-4


def test_a_file_that_was_turned_is_aligned_by_methods_that_do_not_turn(folder: Path) -> None:
    how = ["--spec", "spec.toml", "-o", "out.safetensors"]
    assert deepalign("align", "a.safetensors", "c.safetensors", *ROTATIONS, *how).code == 0
    plain = deepalign(
        "align", "out.safetensors", "b.safetensors", "-m", "weights", "-o", "w.safetensors", "--json"
    )
    assert plain.code == 0, plain.err
    assert plain.json["groups"].keys() == {"attn.heads", "hidden"}
    assert any("could only turn, by -m rotations" in note for note in plain.json["notes"])
    assert apart(file("b"), file("w")) < 1e-5
    turned = deepalign(
        "align", "out.safetensors", "b.safetensors", *ROTATIONS, "-o", "r.safetensors", "--json"
    )
    assert turned.code == 0, turned.err
    assert "stream" in turned.json["groups"]
    assert apart(file("b"), file("r")) < 1e-5
    for words in (["inspect", "out.safetensors"], ["verify", "out.safetensors", "out.safetensors"]):
        done = deepalign(*words, "--json")
        assert done.code == 0, done.err


def test_several_networks_are_merged_by_rotations(folder: Path) -> None:
    names = [f"{name}.safetensors" for name in "abb"]
    done = deepalign("merge", *names, *ROTATIONS, "--spec", "spec.toml", "-o", "m.safetensors", "--json")
    assert done.code == 0, done.err
    assert apart(file("a"), file("m")) < 1e-4


def test_the_default_hands_over_and_exports_the_network_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = []

    def export(module: nn.Module, example: Example, outputs: tuple[str, ...]) -> Quick:
        exported.append(module)
        return Quick(PreNorm(Rms), *example.args)  # the module itself has no memory

    monkeypatch.setattr(pipeline, "export", export)
    how = ["--model", "net.py:make", "--no-dream", "-o", "out.safetensors", "--json"]
    done = deepalign("align", "a.safetensors", "c.safetensors", *how)
    assert done.code == 0, done.err
    assert done.json["method"] == "rotations"
    assert len(exported) == 1
    assert apart(file("c"), file("out")) < 1e-5


@pytest.mark.slow
def test_what_may_turn_is_asked_of_the_network(folder: Path) -> None:
    how = ["--model", "net.py:make", *ROTATIONS, "-o", "out.safetensors", "--json"]
    done = deepalign("align", "a.safetensors", "b.safetensors", *how)
    assert done.code == 0, done.err
    assert (done.json["basis"], done.json["assumptions"]) == ("traced and checked", [])
    assert done.json["distance_after"] < 1e-3
    later = deepalign(
        "align", "a.safetensors", "c.safetensors", *how, "--force", "--strict"
    )  # from the cache
    assert later.code == 0, later.err
    assert apart(file("c"), file("out")) < 1e-5


@pytest.mark.parametrize("wrong", ["gains", "kinds"])
def test_a_wrong_spec_is_found_on_the_network(folder: Path, wrong: str) -> None:
    text = PRENORM.replace(', "block.attn.v.weight"]', "]") if wrong == "gains" else PRENORM
    text = text.replace('"block.up.bias" = "hidden"\n', "") if wrong == "kinds" else text
    Path("wrong.toml").write_text(text)
    how = ["--model", "net.py:make", "--spec", "wrong.toml", *ROTATIONS, "-o", "out.safetensors"]
    done = deepalign("align", "a.safetensors", "b.safetensors", *how)
    assert done.code == 3
    assert "the spec is wrong: a random element of it changes what the network computes" in done.err
    assert not Path("out.safetensors").exists()


@pytest.mark.slow
def test_a_files_word_on_what_turns_is_not_taken_though_the_network_was_traced(folder: Path) -> None:
    wrong = PRENORM.replace(', "block.attn.v.weight"]', "]")
    save_file(file("a"), "a.safetensors", {"deepalign.spec": wrong})
    how = ["--model", "net.py:make", "--data", "data.npz", "--points", 3, "--path-steps", 0]
    done = deepalign("barrier", "a.safetensors", "c.safetensors", *how, "-m", "weights", "-m", "rotations")
    assert done.code == 3
    assert "the spec is wrong" in done.err


def test_scales_are_moved_besides_where_they_are_asked_for(folder: Path) -> None:
    text = PRENORM.replace('"hidden stream"', '"+hidden stream"').replace('"hidden"', '"+hidden"')
    Path("spec.toml").write_text(text.replace('"stream hidden"', '"stream -hidden"'))
    how = [*ROTATIONS, "--spec", "spec.toml", "--activation", "relu", "-o", "out.safetensors"]
    done = deepalign("align", "a.safetensors", "c.safetensors", *how)
    assert done.code == 0, done.err
    assert parse_spec(metadata(Path("out.safetensors"))["deepalign.spec"]).kinds["hidden"].name == "scale"


def test_a_right_spec_holds_on_a_network_with_other_names(folder: Path) -> None:
    for name in "ab":
        save({f"module.{n}": w for n, w in file(name).items()}, Path(f"{name}.safetensors"))
    how = ["--model", "net.py:make", "--spec", "spec.toml", *ROTATIONS, "-o", "out.safetensors", "--json"]
    done = deepalign("align", "a.safetensors", "b.safetensors", *how)
    assert done.code == 0, done.err
    assert done.json["distance_after"] < 1e-3


def test_bad_inputs_are_one_sentence(folder: Path) -> None:
    a, b, out = "a.safetensors", "b.safetensors", ["-o", "out.safetensors"]
    nothing = deepalign("align", a, b, *ROTATIONS, *out)
    assert nothing.code == 3
    assert "nothing says what may turn in 'a.safetensors'" in nothing.err
    assert "--model" in nothing.err
    odd = Path("odd.toml")
    odd.write_text(PRENORM.replace('stream = "orthogonal"', 'stream = "skew"'))
    kind = deepalign("align", a, b, *ROTATIONS, "--spec", odd, *out)
    assert "the kind of 'stream'" in kind.err
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("which", "ab")
def test_a_stream_behind_a_gain_of_nothing_permutes_and_this_is_told(folder: Path, which: str) -> None:
    w = file(which)
    w["norm.weight"][3] = 0.0
    save(w, Path(f"{which}.safetensors"))
    how = [*ROTATIONS, "--spec", "spec.toml", "--save-alignment", "kept", "-o", "out.safetensors", "--json"]
    done = deepalign("align", "a.safetensors", "b.safetensors", *how)
    assert done.code == 0, done.err
    line = f"stream only permutes: the gain 'norm.weight' of {which}.safetensors is as small as 0"
    assert line in done.json["notes"]
    assert apart(file("b"), file("out")) < 1e-5
    again = deepalign(
        "align", "a.safetensors", "b.safetensors", "--alignment", "kept", "-o", "again.safetensors"
    )
    assert again.code == 0, again.err


def test_partial_networks_are_refused(folder: Path) -> None:
    w = file("b")
    w["head.weight"] = torch.randn(5, 8)
    save(w, Path("b.safetensors"))
    how = [*ROTATIONS, "--spec", "spec.toml", "--partial", "-o", "out.safetensors"]
    done = deepalign("align", "a.safetensors", "b.safetensors", *how)
    assert done.code == 2
    assert "--partial and -m rotations exclude each other" in done.err


def test_barriers_of_networks_that_turn_are_compared(folder: Path) -> None:
    how = ["--model", "net.py:make", "--spec", "spec.toml", "--data", "data.npz", "--points", 3]
    methods = ["-m", "none", "-m", "rotations", "--path-steps", 4]
    done = deepalign("barrier", "a.safetensors", "b.safetensors", *how, *methods, "--json")
    assert done.code == 0, done.err
    none, turned = (by_method(done.json)[name] for name in ("none", "rotations"))
    assert turned["midpoint_loss"] == pytest.approx(turned["loss"][0], abs=1e-3)
    assert abs(none["midpoint_loss"] - none["loss"][0]) > 1e-3


def test_several_networks_are_turned_into_one_folder_and_a_plane_is_drawn(folder: Path) -> None:
    names = [f"{name}.safetensors" for name in "abc"]
    done = deepalign("align", *names, *ROTATIONS, "--spec", "spec.toml", "-o", "all", "--json")
    assert done.code == 0, done.err
    b, c = (tensors(path) for path in sorted(Path("all").glob("*.safetensors")))
    assert apart(file("a"), b) < 1e-4
    assert apart(file("c"), c) < 1e-5
    assert torch.equal(b["norm.weight"], c["norm.weight"])
    how = [
        "--model",
        "net.py:make",
        "--spec",
        "spec.toml",
        "--data",
        "data.npz",
        "--points",
        3,
        "--path-steps",
        0,
    ]
    plane = deepalign("landscape", names[0], names[2], *how, "-m", "rotations", "--json")
    assert plane.code == 0, plane.err


def test_in_python(folder: Path) -> None:
    a, b = network(0), network(2)
    spec = parse_spec(PRENORM)
    alignment = da.align(a, b, method="rotations", model=(a, tokens()), spec=spec, no_dream=True)
    moved = dict(alignment.apply(b.state_dict()))
    assert alignment.element.turn.keys() == {"attn.qk", "attn.vo", "stream"}
    assert apart(dict(b.state_dict()), moved) < 1e-5
    merged = da.merge([a, b], method="rotations", model=(a, tokens()), spec=spec, no_dream=True)
    assert torch.allclose(merged["embed.weight"], (a.embed.weight + moved["embed.weight"]) / 2, atol=1e-5)
