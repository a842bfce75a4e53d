from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import deepalign_cli
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import resolve_network
from deepalign_cli.operations.session import Session
from deepalign_cli.symmetry.spec import Activation
from tests import nets
from tests.operations.making import (
    apart,
    deepalign,
    generic,
    listing,
    metadata,
    network,
    pair,
    planted,
    save,
    sha256,
    tensors,
)

TIED_SPEC = """
format = 1
[axes]
"one.weight" = "h 8"
"two.weight" = "h h"
"three.weight" = "h h"
"four.weight" = "4 h"
"""


def tied(seed: int) -> dict[str, Tensor]:
    """Two square layers that share their memory, as a recurrent network's steps do."""
    rng = torch.Generator().manual_seed(seed)
    shared = torch.randn(12, 12, generator=rng)
    one, four = torch.randn(12, 8, generator=rng), torch.randn(4, 12, generator=rng)
    return {"one.weight": one, "two.weight": shared, "three.weight": shared, "four.weight": four}


# --- the same function ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("plain_cnn_bn", ["-m", "weights", "--restarts", "2"]),
        ("cifar_resnet", ["--sketches", "2", "--no-dream"]),
    ],
)
def test_the_output_is_the_same_function_as_b(
    kind: str, how: list[str], dtype: torch.dtype, limit: float, tmp_path: Path
) -> None:
    a, b = pair(tmp_path, kind, dtype)
    out = tmp_path / "out.safetensors"

    done = deepalign("align", a, b, "-o", out, *how, "--json")

    assert done.code == 0
    assert sum(group["moved"] for group in done.json["groups"].values()) > 0
    assert "weights" not in how or done.json["distance_after"] < done.json["distance_before"]
    module, shape = nets.ALL[kind]()
    module.eval()
    assert apart(module, b, out, shape) <= limit
    assert apart(module, a, out, shape) > 0.01
    assert {name: w.dtype for name, w in tensors(out).items()} == {
        name: w.dtype for name, w in module.to(dtype).state_dict().items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_signs_and_scales_keep_the_function(activation: str, tmp_path: Path) -> None:
    def make() -> torch.nn.Module:
        return nets.named_mlp((6, 16, 20, 3), activation)

    a, b = (
        save(generic(make, seed, torch.float64), tmp_path / f"{name}.safetensors")
        for seed, name in enumerate("ab")
    )
    how = ["-m", "weights", "--json"]
    done = deepalign("align", a, b, "-o", tmp_path / "o.safetensors", "--activation", activation, *how)

    assert done.code == 0
    assert apart(make().eval(), b, tmp_path / "o.safetensors", (6,)) <= 1e-12
    if activation == "tanh":  # scales are matched in canonical form, which may cost distance
        plain = deepalign("align", a, b, "-o", tmp_path / "p.safetensors", *how)
        assert plain.json["distance_after"] > done.json["distance_after"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method"), [("vgg_bn", "weights"), ("cifar_resnet", "deepalign")])
def test_a_planted_permutation_is_undone_exactly(kind: str, method: str, tmp_path: Path) -> None:
    a = save(network(kind, 0), tmp_path / "a.pt")
    b, out = tmp_path / "b.pt", tmp_path / "o.safetensors"
    planted(a, b)

    assert deepalign("align", a, b, "-m", method, "-o", out, "--json").json["distance_after"] == 0
    state = torch.load(a)
    assert all(w.equal(state[name]) for name, w in tensors(out).items())


@pytest.mark.slow
def test_a_planted_sign_is_undone_exactly(tmp_path: Path) -> None:
    a = save(network("tanh_mlp", 0), tmp_path / "a.pt")
    b = tmp_path / "b.pt"
    planted(a, b, Activation.TANH)

    how = ["-m", "weights", "--json"]
    signed = deepalign("align", a, b, "-o", tmp_path / "o.safetensors", "--activation", "tanh", *how)
    plain = deepalign("align", a, b, "-o", tmp_path / "p.safetensors", *how)

    assert signed.json["distance_after"] == 0
    assert plain.json["distance_after"] > 1


@pytest.mark.slow
def test_method_none_leaves_b_as_it_is(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    done = deepalign("align", a, b, "-m", "none", "-o", tmp_path / "o.safetensors", "--json")

    assert (done.json["method"], done.json["distance_after"]) == ("none", done.json["distance_before"])
    assert {group["moved"] for group in done.json["groups"].values()} == {0}
    state = torch.load(b)
    assert all(w.equal(state[name]) for name, w in tensors(tmp_path / "o.safetensors").items())


# --- what is in the file --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--sketches", "2"], ["-m", "weights", "--restarts", "4"]], ids=" ".join)
def test_the_same_seed_gives_the_same_bytes(how: list[str], tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    for name in ("1", "2"):
        assert deepalign("align", a, b, "-o", tmp_path / name, *how, "--seed", 3).code == 0

    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.slow
def test_the_making_is_in_the_metadata(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "o.safetensors"
    deepalign("align", a, b, "-o", out, "--seed", 7)

    told = metadata(out)
    assert told["format"] == "pt"
    assert (told["deepalign.sha256.0"], told["deepalign.sha256.1"]) == (sha256(a), sha256(b))
    assert (told["deepalign.input.0"], told["deepalign.input.1"]) == ("a.pt", "b.pt")
    assert told["deepalign.command"] == "align"
    assert told["deepalign.method"] == "deepalign"
    assert told["deepalign.network.name"] == "universal-v1"
    assert told["deepalign.network.sha256"] == sha256(resolve_network("universal-v1"))
    assert (told["deepalign.refine"], told["deepalign.sketches"]) == ("auto", "8")
    assert told["deepalign.seed"] == "7"
    assert told["deepalign.version"] == deepalign_cli.__version__


@pytest.mark.slow
def test_no_network_is_in_the_metadata_where_none_was_used(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept = tmp_path / "kept"
    deepalign("align", a, b, "-m", "weights", "-o", tmp_path / "1", "--save-alignment", kept)
    deepalign("align", a, b, "--alignment", kept, "-o", tmp_path / "2")

    for out in ("1", "2"):
        told = metadata(tmp_path / out)
        assert told["deepalign.method"] == "weights"
        assert not any("network" in key or "sketches" in key for key in told)


@pytest.mark.slow
def test_metadata_of_b_is_kept(tmp_path: Path) -> None:
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for seed, path in enumerate((a, b)):
        save_file(dict(network("named_mlp", seed).state_dict()), path, {"author": path.stem, "format": "pt"})
    deepalign("align", a, b, "-o", tmp_path / "o.safetensors")

    assert metadata(tmp_path / "o.safetensors")["author"] == "b"


@pytest.mark.slow
@pytest.mark.parametrize(("prefix", "nest"), [("module._orig_mod.", ""), ("model.", "state_dict")])
def test_names_stay_as_they_are_stored(prefix: str, nest: str, tmp_path: Path) -> None:
    stored = {}
    for seed, path in enumerate((tmp_path / "a.pt", tmp_path / "b.pt")):
        state = {prefix + name: w for name, w in network("plain_cnn_bn", seed).state_dict().items()}
        stored[path] = state
        torch.save({nest: state, "epoch": 3} if nest else state, path)
    done = deepalign("align", *stored, "-o", tmp_path / "o.safetensors", "--json")

    assert done.code == 0
    assert set(tensors(tmp_path / "o.safetensors")) == set(stored[tmp_path / "b.pt"])
    if nest:
        assert any(f"took '{nest}' and left 'epoch'" in note for note in done.json["notes"])


@pytest.mark.slow
def test_a_prefix_on_one_side_only(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    torch.save({f"module.{name}": w for name, w in torch.load(b).items()}, b)
    deepalign("align", a, b, "-o", tmp_path / "o.safetensors")
    deepalign("merge", a, b, "-o", tmp_path / "m.safetensors")

    assert set(tensors(tmp_path / "o.safetensors")) == {f"module.{name}" for name in torch.load(a)}
    assert set(tensors(tmp_path / "m.safetensors")) == set(torch.load(a))


@pytest.mark.slow
def test_a_compiled_submodule_on_one_side_only(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    spelt = {name: name.replace("fc2.", "fc2._orig_mod.") for name in torch.load(a)}
    torch.save({spelt[name]: w for name, w in torch.load(b).items()}, b)
    done = deepalign("align", a, b, "-o", tmp_path / "o.safetensors")
    deepalign("merge", a, b, "-o", tmp_path / "m.safetensors")

    assert done.code == 0, done.err
    assert set(tensors(tmp_path / "o.safetensors")) == set(spelt.values())
    assert set(tensors(tmp_path / "m.safetensors")) == set(spelt)
    assert deepalign("verify", b, tmp_path / "o.safetensors").code == 0
    assert "without '_orig_mod.'" in deepalign("inspect", b).out
    assert "_orig_mod" not in deepalign("inspect", a).out


@pytest.mark.slow
def test_tied_tensors_stay_tied(tmp_path: Path) -> None:
    a, b, spec, out = (tmp_path / n for n in ("a.pt", "b.pt", "s.toml", "o.safetensors"))
    torch.save(tied(0), a)
    torch.save(tied(1), b)
    spec.write_text(TIED_SPEC)
    for command in ("align", "merge"):
        assert deepalign(command, a, b, "--spec", spec, "-o", out, "--force").code == 0

        made = tensors(out)
        assert made["two.weight"].equal(made["three.weight"])
        assert not made["two.weight"].equal(tied(1)["two.weight"])
        assert json.loads(metadata(out)["deepalign.tied"]) == {"three.weight": "two.weight"}
        assert open_checkpoint(out).infos["three.weight"].tied_to == "two.weight"


def test_a_spec_that_tears_tied_tensors_apart_is_refused(tmp_path: Path) -> None:
    a, b, spec = (tmp_path / n for n in ("a.pt", "b.pt", "s.toml"))
    torch.save(tied(0), a)
    torch.save(tied(1), b)
    spec.write_text(TIED_SPEC.replace('"three.weight" = "h h"', '"three.weight" = "12 h"'))
    done = deepalign("align", a, b, "--spec", spec, "-o", tmp_path / "o.safetensors", "--json")

    assert (done.code, done.error["code"]) == (3, "spec")
    assert "'three.weight' and 'two.weight' share their memory" in done.error["message"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types_are_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn", dtype)
    for command in ("align", "merge"):
        out = tmp_path / f"{command}.safetensors"
        assert deepalign(command, a, b, "-o", out).code == 0
        made = tensors(out)
        assert {name: w.dtype for name, w in made.items()} == {n: w.dtype for n, w in torch.load(b).items()}
        assert made["conv1.weight"].dtype == dtype
        source = torch.load(b if command == "align" else a)
        assert made["bn1.num_batches_tracked"].equal(source["bn1.num_batches_tracked"])
    values = [
        w.double().sort().values
        for w in (tensors(tmp_path / "align.safetensors")["fc1.bias"], torch.load(b)["fc1.bias"])
    ]
    assert values[0].equal(values[1])


# --- where it goes --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    pair(tmp_path / "there")
    assert deepalign("align", "there/a.pt", "there/b.pt", "-q").out == "b.aligned.safetensors\n"
    assert deepalign("merge", "there/a.pt", "there/b.pt", "-q").out == "a.merged.safetensors\n"

    assert {path.name for path in tmp_path.iterdir()} == {
        "there",
        "b.aligned.safetensors",
        "a.merged.safetensors",
    }


@pytest.mark.slow
def test_the_default_output_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("net-a", "net-b.v2")):
        (tmp_path / name).mkdir()
        save(network("named_mlp", seed), tmp_path / name / "model.safetensors")
    assert deepalign("align", "net-a", "net-b.v2", "-q").out == "net-b.v2.aligned.safetensors\n"


@pytest.mark.slow
def test_the_three_ways_to_tell(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "o.safetensors"
    human = deepalign("align", a, b, "-o", out)
    quiet = deepalign("align", a, b, "-o", out, "-q", "--force")
    told = deepalign("align", a, b, "-o", out, "--json", "--force").json

    assert human.out.startswith(f"wrote {out} (")
    assert "distance " in human.out
    assert "note: universal-v1, 8 sketches" in human.err
    assumed = [line for line in human.err.splitlines() if line.startswith("assumption: ")]
    assert (quiet.out, quiet.err.splitlines()) == (f"{out}\n", assumed)
    assert (told["schema"], told["command"], told["output"]) == (1, "align", str(out))
    assert told["method"] == "deepalign"
    assert (told["network"], told["sketches"], told["refine"]) == ("universal-v1", 8, "auto")
    assert isinstance(told["kept"], str)
    assert isinstance(told["why"], str)
    assert sorted(told["notes"]) == sorted(line.removeprefix("note: ") for line in human.err.splitlines())
    assert told["seconds"] > 0
    assert told["groups"] == {
        "fc1": {"size": 16, "moved": told["groups"]["fc1"]["moved"]},
        "fc2": {"size": 20, "moved": told["groups"]["fc2"]["moved"]},
    }


# --- the alignment as a file ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("activation", [[], ["--activation", "relu"]])
def test_a_saved_alignment_gives_the_same_bytes(activation: list[str], tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept, how = tmp_path / "kept.safetensors", [*activation, "-m", "weights", "--restarts", 2]
    assert deepalign("align", a, b, *how, "-o", tmp_path / "1", "--save-alignment", kept).code == 0
    assert deepalign("merge", a, b, *how, "-o", tmp_path / "2.safetensors").code == 0
    assert deepalign("align", a, b, "--alignment", kept, "-o", tmp_path / "3").code == 0
    assert deepalign("merge", a, b, "--alignment", kept, "-o", tmp_path / "4.safetensors").code == 0

    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()
    merged = [open_checkpoint(tmp_path / f"{i}.safetensors") for i in (2, 4)]
    told = [{k: v for k, v in one.metadata.items() if k != "deepalign.recipe"} for one in merged]
    assert told[0] == told[1]
    assert all(torch.equal(merged[0][name], merged[1][name]) for name in merged[0])
    assert kept.stat().st_size < 5000


@pytest.mark.slow
def test_merge_saves_an_alignment_too(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    assert (
        deepalign("merge", a, b, "-o", tmp_path / "m.safetensors", "--save-alignment", tmp_path / "1").code
        == 0
    )
    assert deepalign("align", a, b, "-o", tmp_path / "o", "--save-alignment", tmp_path / "2").code == 0

    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.slow
def test_a_saved_alignment_reports_what_it_was(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept = tmp_path / "kept"
    first = deepalign("align", a, b, "-o", tmp_path / "1", "--save-alignment", kept, "--json").json
    again = deepalign("align", a, b, "-o", tmp_path / "2", "--alignment", kept, "--json").json

    for key in ("method", "distance_before", "distance_after", "groups"):
        assert first[key] == again[key]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["reference", "moving input"])
def test_an_alignment_of_other_inputs_is_refused_without_force(which: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept, out = tmp_path / "kept", tmp_path / "o.safetensors"
    deepalign("align", a, b, "-o", tmp_path / "1", "--save-alignment", kept)
    save(network("named_mlp", 5), a if which == "reference" else b)
    before = listing(tmp_path)

    for command in ("align", "merge"):
        done = deepalign(command, a, b, "--alignment", kept, "-o", out, "--json")
        assert (done.code, done.out, done.error["code"]) == (3, "", "mismatch")
        assert f"made for another {which}" in done.error["message"]
        assert "--force" in done.error["hint"]
        assert listing(tmp_path) == before

    assert deepalign("align", a, b, "--alignment", kept, "-o", out, "--force").code == 0
    assert out.exists()


@pytest.mark.slow
def test_an_alignment_of_another_architecture_is_refused_even_with_force(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    (tmp_path / "cnn").mkdir()
    c, d = pair(tmp_path / "cnn", "plain_cnn")
    deepalign("align", a, b, "-o", tmp_path / "1", "--save-alignment", tmp_path / "kept")
    done = deepalign(
        "align", c, d, "--alignment", tmp_path / "kept", "-o", tmp_path / "2", "--force", "--json"
    )

    assert done.code == 3
    assert not (tmp_path / "2").exists()


def test_an_alignment_that_is_none(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    (tmp_path / "text").write_text("x")
    other = save(network("named_mlp", 3), tmp_path / "other.safetensors")
    for path, code in ((other, 3), (tmp_path / "text", 3), (tmp_path / "gone", 2), (tmp_path, 3), (a, 3)):
        done = deepalign("align", a, b, "--alignment", path, "-o", tmp_path / "o", "--json")
        assert (done.code, done.out) == (code, ""), path
        assert str(path) in done.error["message"]
        assert done.error["hint"]
        assert not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["short", "twice", "scaled"])
def test_a_broken_alignment_is_refused(damage: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept = tmp_path / "kept.safetensors"
    deepalign("align", a, b, "-o", tmp_path / "1", "--save-alignment", kept)
    parts, told = tensors(kept), metadata(kept)
    perm = parts["perm/fc1"].clone()
    if damage == "short":
        parts["perm/fc1"] = perm[:-1].clone()
    elif damage == "twice":
        perm[0] = perm[1]
        parts["perm/fc1"] = perm
    else:
        parts["scale/fc1"] = torch.full((16,), 2.0, dtype=torch.float64)
    save_file(parts, kept, told)
    done = deepalign("align", a, b, "--alignment", kept, "-o", tmp_path / "2", "--json")

    assert (done.code, done.error["code"]) == (3, "mismatch")
    assert not (tmp_path / "2").exists()


def test_the_alignment_must_not_go_where_the_output_goes(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    before = listing(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for place in ("o.safetensors", "./o.safetensors", "link/o.safetensors"):
        kept = tmp_path / place
        done = deepalign("align", a, b, "-o", tmp_path / "o.safetensors", "--save-alignment", kept, "--force")
        assert (done.code, done.out) == (2, "")
    (tmp_path / "link").unlink()
    assert listing(tmp_path) == before


def test_an_alignment_that_exists_stops_it_before_any_work(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    (tmp_path / "kept").write_text("mine")
    done = deepalign("align", a, b, "-o", tmp_path / "o", "--save-alignment", tmp_path / "kept")

    assert done.code == 2
    assert not (tmp_path / "o").exists()
    assert (tmp_path / "kept").read_text() == "mine"


# --- several at once ------------------------------------------------------------------------------


def four(folder: Path, kind: str = "named_mlp") -> list[Path]:
    return [save(network(kind, seed), folder / f"{name}.pt") for seed, name in enumerate("abcd")]


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["-m", "weights", "--restarts", "2"]], ids=["deepalign", "weights"])
def test_several_are_aligned_as_each_by_itself(how: list[str], tmp_path: Path) -> None:
    a, *moving = four(tmp_path)
    done = deepalign("align", a, *moving, *how, "-o", tmp_path / "new", "--json")

    assert (done.code, done.err) == (0, "")
    told = done.json
    assert told["outputs"] == [str(tmp_path / "new" / f"{n}.aligned.safetensors") for n in "bcd"]
    assert told["output"] == str(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {Path(out).name for out in told["outputs"]}
    assert len(told.get("kept", "xyz")) == len(told.get("why", "xyz")) == 3
    for i, path in enumerate(moving):
        alone = deepalign("align", a, path, *how, "-o", tmp_path / "alone", "--force", "--json").json
        assert Path(told["outputs"][i]).read_bytes() == (tmp_path / "alone").read_bytes()
        for key in ("distance_before", "distance_after"):
            assert told[key][i] == alone[key]
        assert i > 0 or told["groups"] == alone["groups"]


@pytest.mark.slow
def test_n_networks_cost_n_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = 0
    reader = DeepAlign.reader

    def counted(self: DeepAlign, *args: Any) -> Any:
        nonlocal passes
        passes += 1
        return reader(self, *args)

    monkeypatch.setattr(DeepAlign, "reader", counted)
    for command, out in (("align", "new"), ("merge", "m.safetensors")):
        passes = 0
        assert deepalign(command, *four(tmp_path), "--refine", "none", "-o", tmp_path / out).code == 0
        assert passes == 4


@pytest.mark.slow
def test_several_go_to_this_folder_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    four(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    inputs = [f"there/{name}.pt" for name in "abcd"]
    names = [f"{name}.aligned.safetensors" for name in "bcd"]
    quiet = deepalign("align", *inputs, "-m", "none", "-q")

    assert (quiet.code, quiet.out.split(), quiet.err) == (0, names, "")
    assert {path.name for path in tmp_path.iterdir()} == {"there", *names}
    again = deepalign("align", *inputs, "-m", "none")
    assert (again.code, again.out) == (2, "")
    assert "b.aligned.safetensors exists" in again.err


def test_several_are_told_line_by_line(tmp_path: Path) -> None:
    done = deepalign("align", *four(tmp_path), "-m", "none", "-o", tmp_path)

    assert [line.partition(":")[0] for line in done.out.splitlines()[:3]] == [
        f"wrote {tmp_path / name}.aligned.safetensors" for name in "bcd"
    ]
    assert done.out.splitlines()[3].startswith("3 networks by none in ")


@pytest.mark.slow
def test_saved_alignments_of_several(tmp_path: Path) -> None:
    a, *moving = four(tmp_path)
    kept: list[object] = []
    for path in moving:
        deepalign(
            "align", a, path, "-m", "weights", "-o", f"{path}.safetensors", "--save-alignment", f"{path}.kept"
        )
        kept += ["--alignment", f"{path}.kept"]
    assert deepalign("align", a, *moving, *kept, "-o", tmp_path / "new").code == 0
    for path in moving:
        made = tmp_path / "new" / f"{path.stem}.aligned.safetensors"
        assert made.read_bytes() == Path(f"{path}.safetensors").read_bytes()

    turned = [kept[i] for i in (0, 3, 2, 1, 4, 5)]
    done = deepalign("align", a, *moving, *turned, "-o", tmp_path / "other")
    assert done.code == 3
    assert "made for another moving input" in done.err
    few = deepalign("align", a, *moving, *kept[:4], "-o", tmp_path / "other")
    assert few.code == 2
    assert "2 alignments are given for 3 moving inputs" in few.err


@pytest.mark.parametrize(
    ("inputs", "args", "message"),
    [
        ("ab", ["-o", "folder"], "folder is a folder"),
        ("abc", ["-o", "taken"], "'taken' is not a folder"),
        ("abc", ["-o", "taken", "--force"], "'taken' is not a folder"),
        ("abc", ["-o", "no/where"], "there is no folder"),
        ("abc", ["-o", "folder"], "folder/b.aligned.safetensors exists"),
        ("abb", ["-o", "new"], "'b.pt' and 'b.pt' would both be written to 'new/b.aligned.safetensors'"),
        ("abc", ["-o", "x.safetensors"], "-o x.safetensors is one file, and 2 are written"),
        ("abc", ["--save-alignment", "kept"], "a saved alignment holds one pair"),
        ("a", [], "align needs at least two checkpoints"),
        ("", [], "Missing argument"),
    ],
)
def test_what_cannot_be_written_stops_several_before_any_work(
    inputs: str, args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    four(tmp_path)
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.aligned.safetensors").write_text("mine")
    before = listing(tmp_path)
    monkeypatch.setattr(Session, "alignments", None)
    done = deepalign("align", *(f"{name}.pt" for name in inputs), *args)

    assert done.out == ""
    assert done.code == (1 if "no/where" in args else 2)
    assert message in done.err.splitlines()[0]
    assert listing(tmp_path) == before


def test_an_input_that_does_not_fit_stops_several_before_any_output(tmp_path: Path) -> None:
    a, b, *_ = four(tmp_path)
    other = save(network("named_mlp", 3, torch.float64), tmp_path / "other.pt")
    state = torch.load(other)
    state["fc1.bias"][2] = float("nan")
    save(state, other)
    done = deepalign("align", a, b, other, "-o", tmp_path / "new")

    assert done.code == 3
    assert "'fc1.bias'" in done.err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dreams", [True, False])
def test_the_default_method_imports_no_more_than_it_needs(tmp_path: Path, dreams: bool) -> None:
    """Each of these takes a good part of a second, which a small alignment does not."""
    needless = "set()" if dreams else "{'deepalign_cli.models.lookup', 'deepalign_cli.data'}"
    code = (
        "import sys; from deepalign_cli.cli.main import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "heavy = {'torch._dynamo', 'torch._inductor', 'scipy.optimize', 'huggingface_hub', 'sympy'}\n"
        f"heavy |= {needless}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    demo = Path(deepalign_cli.__file__).parent / "demo"
    arguments: list[Path | str] = ["align", demo / "a.safetensors", demo / "b.safetensors"]
    arguments += ["-o", tmp_path / "out.safetensors"]
    arguments += [] if dreams else ["--no-dream"]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True)
