from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import deepalign_cli
from deepalign_cli.checkpoint import open_checkpoint
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

KINDS = ["mlp", "named_mlp", "mlp_batchnorm", "plain_cnn_bn", "vgg_bn", "cifar_resnet", "resnet_basic"]
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


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_output_is_the_same_function_as_b(
    kind: str, dtype: torch.dtype, limit: float, tmp_path: Path
) -> None:
    a, b = pair(tmp_path, kind, dtype)
    out = tmp_path / "out.safetensors"

    done = deepalign("align", a, b, "-o", out, "--restarts", 2, "--json")

    assert done.code == 0
    assert sum(group["moved"] for group in done.json["groups"].values()) > 0
    assert done.json["distance_after"] < done.json["distance_before"]
    module, shape = nets.ALL[kind]()
    module.eval()
    assert apart(module, b, out, shape) <= limit
    assert apart(module, a, out, shape) > 0.01
    assert {name: w.dtype for name, w in tensors(out).items()} == {
        name: w.dtype for name, w in module.to(dtype).state_dict().items()
    }


@pytest.mark.parametrize("activation", ["tanh", "relu", "leaky_relu", "sin", "gelu"])
def test_signs_and_scales_keep_the_function(activation: str, tmp_path: Path) -> None:
    def make() -> torch.nn.Module:
        return nets.named_mlp((6, 16, 20, 3), activation)

    a, b = (
        save(generic(make, seed, torch.float64), tmp_path / f"{name}.safetensors")
        for seed, name in enumerate("ab")
    )
    done = deepalign("align", a, b, "-o", tmp_path / "o.safetensors", "--activation", activation, "--json")

    assert done.code == 0
    assert apart(make().eval(), b, tmp_path / "o.safetensors", (6,)) <= 1e-12
    if activation in ("tanh", "sin"):  # scales are matched in canonical form, which may cost distance
        plain = deepalign("align", a, b, "-o", tmp_path / "p.safetensors", "--json")
        assert plain.json["distance_after"] > done.json["distance_after"]


@pytest.mark.parametrize("kind", [*KINDS, "plain_cnn", "resnet_bottleneck", "preact_resnet", "mlp_layernorm"])
def test_a_planted_permutation_is_undone_exactly(kind: str, tmp_path: Path) -> None:
    a = save(network(kind, 0), tmp_path / "a.pt")
    b, out = tmp_path / "b.pt", tmp_path / "o.safetensors"
    planted(a, b)

    assert deepalign("align", a, b, "-o", out, "--json").json["distance_after"] == 0
    state = torch.load(a)
    assert all(w.equal(state[name]) for name, w in tensors(out).items())


def test_a_planted_sign_is_undone_exactly(tmp_path: Path) -> None:
    a = save(network("tanh_mlp", 0), tmp_path / "a.pt")
    b = tmp_path / "b.pt"
    planted(a, b, Activation.TANH)

    signed = deepalign("align", a, b, "-o", tmp_path / "o.safetensors", "--activation", "tanh", "--json")
    plain = deepalign("align", a, b, "-o", tmp_path / "p.safetensors", "--json")

    assert signed.json["distance_after"] == 0
    assert plain.json["distance_after"] > 1


def test_method_none_leaves_b_as_it_is(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    done = deepalign("align", a, b, "-m", "none", "-o", tmp_path / "o.safetensors", "--json")

    assert (done.json["method"], done.json["distance_after"]) == ("none", done.json["distance_before"])
    assert {group["moved"] for group in done.json["groups"].values()} == {0}
    state = torch.load(b)
    assert all(w.equal(state[name]) for name, w in tensors(tmp_path / "o.safetensors").items())


# --- what is in the file --------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "cifar_resnet")
    for name in ("1", "2"):
        assert deepalign("align", a, b, "-o", tmp_path / name, "--restarts", 4, "--seed", 3).code == 0

    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_the_making_is_in_the_metadata(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "o.safetensors"
    deepalign("align", a, b, "-o", out, "--seed", 7)

    told = metadata(out)
    assert told["format"] == "pt"
    assert (told["deepalign.sha256.0"], told["deepalign.sha256.1"]) == (sha256(a), sha256(b))
    assert (told["deepalign.input.0"], told["deepalign.input.1"]) == ("a.pt", "b.pt")
    assert told["deepalign.command"] == "align"
    assert told["deepalign.method"] == "weights"
    assert told["deepalign.seed"] == "7"
    assert told["deepalign.version"] == deepalign_cli.__version__


def test_metadata_of_b_is_kept(tmp_path: Path) -> None:
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for seed, path in enumerate((a, b)):
        save_file(dict(network("named_mlp", seed).state_dict()), path, {"author": path.stem, "format": "pt"})
    deepalign("align", a, b, "-o", tmp_path / "o.safetensors")

    assert metadata(tmp_path / "o.safetensors")["author"] == "b"


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("nest", ["", "state_dict", "model_state_dict"])
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


def test_a_prefix_on_one_side_only(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    torch.save({f"module.{name}": w for name, w in torch.load(b).items()}, b)
    deepalign("align", a, b, "-o", tmp_path / "o.safetensors")
    deepalign("merge", a, b, "-o", tmp_path / "m.safetensors")

    assert set(tensors(tmp_path / "o.safetensors")) == {f"module.{name}" for name in torch.load(a)}
    assert set(tensors(tmp_path / "m.safetensors")) == set(torch.load(a))


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
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


def test_the_default_output_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("net-a", "net-b.v2")):
        (tmp_path / name).mkdir()
        save(network("named_mlp", seed), tmp_path / name / "model.safetensors")
    assert deepalign("align", "net-a", "net-b.v2", "-q").out == "net-b.v2.aligned.safetensors\n"


def test_the_three_ways_to_tell(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "o.safetensors"
    human = deepalign("align", a, b, "-o", out)
    quiet = deepalign("align", a, b, "-o", out, "-q", "--force")
    told = deepalign("align", a, b, "-o", out, "--json", "--force").json

    assert human.out.startswith(f"wrote {out} (")
    assert "distance " in human.out
    assert human.err == ""
    assert (quiet.out, quiet.err) == (f"{out}\n", "")
    assert (told["schema"], told["command"], told["output"]) == (1, "align", str(out))
    assert told["method"] == "weights"
    assert told["seconds"] > 0
    assert told["groups"] == {
        "fc1": {"size": 16, "moved": told["groups"]["fc1"]["moved"]},
        "fc2": {"size": 20, "moved": told["groups"]["fc2"]["moved"]},
    }


# --- the alignment as a file ----------------------------------------------------------------------


@pytest.mark.parametrize("activation", [[], ["--activation", "relu"]])
def test_a_saved_alignment_gives_the_same_bytes(activation: list[str], tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept, how = tmp_path / "kept.safetensors", [*activation, "--restarts", 2]
    assert deepalign("align", a, b, *how, "-o", tmp_path / "1", "--save-alignment", kept).code == 0
    assert deepalign("merge", a, b, *how, "-o", tmp_path / "2").code == 0
    assert deepalign("align", a, b, "--alignment", kept, "-o", tmp_path / "3").code == 0
    assert deepalign("merge", a, b, "--alignment", kept, "-o", tmp_path / "4").code == 0

    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()
    assert (tmp_path / "2").read_bytes() == (tmp_path / "4").read_bytes()
    assert kept.stat().st_size < 5000


def test_merge_saves_an_alignment_too(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    assert deepalign("merge", a, b, "-o", tmp_path / "m", "--save-alignment", tmp_path / "1").code == 0
    assert deepalign("align", a, b, "-o", tmp_path / "o", "--save-alignment", tmp_path / "2").code == 0

    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_saved_alignment_reports_what_it_was(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept = tmp_path / "kept"
    first = deepalign("align", a, b, "-o", tmp_path / "1", "--save-alignment", kept, "--json").json
    again = deepalign("align", a, b, "-o", tmp_path / "2", "--alignment", kept, "--json").json

    for key in ("method", "distance_before", "distance_after", "groups"):
        assert first[key] == again[key]


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


@pytest.mark.parametrize("damage", ["short", "twice", "range", "extra", "scaled"])
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
    elif damage == "range":
        perm[0] = 10_000
        parts["perm/fc1"] = perm
    elif damage == "extra":
        parts["perm/fc9"] = perm
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
