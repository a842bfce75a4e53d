"""`deepalign merge --base`: networks that were trained from one base, and the combiners that need it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.combiners.table import COMBINERS
from tests import nets
from tests.operations.making import deepalign, generic, metadata, planted, save, tensors
from tests.symmetry.builders import seeded

ON_BASE = [name for name, row in COMBINERS.items() if row.base]
DRY = {"dry_run", "groups", "inputs", "bytes", "tensors", "base"}  # as docs/cli.md has them
OWN = {"density": 0.5, "gamma": 0.1, "epsilon": 0.2, "lambda_": 0.7}


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a base, and two networks trained from it."""
    base = generic(nets.named_mlp, 0).state_dict()
    save(base, tmp_path / "base.pt")
    for seed, name in enumerate("bc", 1):
        step = {n: w + 0.1 * torch.randn(w.shape, generator=seeded(seed)) for n, w in base.items()}
        save(step, tmp_path / f"{name}.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(name: str) -> list[str]:
    """A value for each option of a combiner, as it is typed."""
    return [word for p in COMBINERS[name].parameters for word in (p.option, str(OWN[p.name]))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_BASE)
def test_all_inputs_are_aligned_to_the_base_and_combined(family: Path, name: str) -> None:
    row = COMBINERS[name]
    for seed, network in enumerate("bc"):  # their units in disorder
        planted(family / f"{network}.pt", family / f"{network}-moved.pt", seed=seed)
    done = deepalign(
        "merge", "b-moved.pt", "c-moved.pt", "--base", "base.pt", "--combine", name, *options(name),
        "-m", "weights", "--seed", "3", "-o", "m.safetensors", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (done.json["combine"], "alpha" in done.json) == (name, name == "nuslerp")

    base, b, c = (torch.load(family / f"{one}.pt") for one in ("base", "b", "c"))
    combine = row.make(row.equal(2), {p.name: OWN[p.name] for p in row.parameters}, 3)
    merged = tensors(family / "m.safetensors")
    assert merged.keys() == base.keys()
    for n, w in merged.items():
        assert torch.allclose(w, combine(n, [base[n], b[n], c[n]]), atol=1e-6)
    told = metadata(family / "m.safetensors")
    assert {k: told[f"deepalign.{k}"] for k in ("combine", "base", "seed", "input.0", "input.2")} == {
        "combine": name, "base": "true", "seed": "3", "input.0": "base.pt", "input.2": "c-moved.pt",
    }  # fmt: skip
    assert ("deepalign.weights" in told) is row.weighed


def test_names_and_types_are_the_bases(family: Path) -> None:
    half = {n: w.half() for n, w in torch.load(family / "base.pt").items()}
    save(half, family / "half.pt")
    done = deepalign("merge", "b.pt", "--base", "half.pt", "--combine", "task_arithmetic", "-m", "none")
    assert (done.code, (family / "b.merged.safetensors").exists()) == (0, True)
    assert {w.dtype for w in tensors(family / "b.merged.safetensors").values()} == {torch.float16}


def test_values_are_for_each_input_or_for_all(family: Path) -> None:
    base, b, c = (torch.load(family / f"{one}.pt") for one in ("base", "b", "c"))
    for weights, density, values in (("2", "0.5", (2.0, 2.0)), ("1,-0.5", "0.5,1", (1.0, -0.5))):
        done = deepalign(
            "merge", "b.pt", "c.pt", "--base", "base.pt", "--combine", "breadcrumbs", "--weights", weights,
            "--density", density, "-m", "none", "-o", "m.safetensors", "--force",
        )  # fmt: skip
        assert done.code == 0, done.err
        shares = [float(x) for x in density.split(",")]
        combine = COMBINERS["breadcrumbs"].make(values, {"density": shares if len(shares) > 1 else shares[0]})
        for n, w in tensors(family / "m.safetensors").items():
            assert torch.allclose(w, combine(n, [base[n], b[n], c[n]]), atol=1e-6)
    told = metadata(family / "m.safetensors")
    assert (told["deepalign.weights"], told["deepalign.density"]) == ("[1.0, -0.5]", "[0.5, 1.0]")


def test_tensors_have_weights_by_their_names_and_layers(family: Path) -> None:
    done = deepalign(
        "merge", "b.pt", "c.pt", "--alpha", "0.5", "--weights-for", "fc1=0", "--weights-for", "weight=1",
        "-m", "none", "-o", "m/",
    )  # fmt: skip
    assert done.code == 0, done.err
    b, c = (torch.load(family / f"{one}.pt") for one in "bc")
    for n, w in tensors(family / "m" / "model.safetensors").items():
        expected = b[n] if "fc1" in n else c[n] if "weight" in n else (b[n] + c[n]) / 2
        assert torch.allclose(w, expected, atol=1e-6), n
    told = metadata(family / "m" / "model.safetensors")
    assert told["deepalign.weights_for"] == '["fc1=1.0/0.0", "weight=0.0/1.0"]'
    assert "--weights-for fc1=0 --weights-for weight=1" in (family / "m" / "README.md").read_text()


def test_a_dry_run_says_what_would_be_done(family: Path) -> None:
    use = ["merge", "b.pt", "c.pt", "--base", "base.pt", "-m", "weights", "-o", "m.safetensors", "--dry-run"]
    done = deepalign(*use, "--combine", "ties", "--weights", "1,0.5", "--weights-for", "fc1=0.1/0.2")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("would write m.safetensors (")
    assert [line.partition(": ")[2] for line in lines[1:4]] == ["the base", "weight 1", "weight 0.5"]
    assert lines[4].startswith("align to base.pt by weights: ")
    assert lines[5:7] == [
        "combine them by ties: density 1.0, lambda 1.0",
        "2 tensors have weights of their own; --json lists them",
    ]
    told = deepalign(*use, "--combine", "sce", "--density", "0.5", "--json").json
    assert told.keys() - DRY == {"schema", "command", "output", "method", "combine", "density"}
    assert (told["dry_run"], told["combine"], told["density"], "weights" in told) == (True, "sce", 0.5, False)
    assert deepalign(*use, "-q", "--combine", "sce", "--density", "1").out == "m.safetensors\n"
    assert "its weight is found by the combiner" in deepalign(*use, "--combine", "model_stock").out
    assert not (family / "m.safetensors").exists()


def test_a_seed_is_of_use_to_what_draws_numbers(family: Path) -> None:
    use = ["merge", "b.pt", "--base", "base.pt", "-m", "none", "--density", "0.5", "--force", "-q"]
    made = []
    for seed in ("1", "2", "1"):
        done = deepalign(*use, "--combine", "dare_linear", "--seed", seed, "-o", "m.safetensors")
        assert done.code == 0, done.err
        made.append(tensors(family / "m.safetensors")["fc1.weight"])
    assert torch.equal(made[0], made[2])
    assert not torch.equal(made[0], made[1])
    assert "-m none makes no use of --seed" in deepalign(*use, "--combine", "ties", "--seed", "1").err

    aligned = ["align", "base.pt", "b.pt", "-m", "none", "--save-alignment", "kept", "-o", "x.safetensors"]
    assert deepalign(*aligned).code == 0
    again = [word for word in use if word not in ("-m", "none")]
    done = deepalign(
        *again, "--combine", "dare_linear", "--seed", "1", "--alignment", "kept", "-o", "m.safetensors"
    )
    assert done.code == 0, done.err
    assert torch.equal(tensors(family / "m.safetensors")["fc1.weight"], made[0])


def test_what_keeps_all_says_so_unless_it_was_asked_to(family: Path) -> None:
    use = ["merge", "b.pt", "c.pt", "--base", "base.pt", "-m", "none", "--combine"]
    note = "note: ties kept all entries of the task vectors: add --density 0.5 to keep half"
    assert note in deepalign(*use, "ties", "-o", "1.safetensors").err
    assert "kept all" not in deepalign(*use, "ties", "--density", "1", "-o", "2.safetensors").err
    assert "kept all" not in deepalign(*use, "task_arithmetic", "-o", "3.safetensors").err


def test_the_card_has_the_weights_the_base_and_the_command(family: Path) -> None:
    use = ["--combine", "ties", "--weights", "1,0.5", "--density", "0.5,0.25", "-m", "none"]
    done = deepalign("merge", "b.pt", "c.pt", "--base", "base.pt", *use, "-o", "merged/")
    assert done.code == 0, done.err
    text = (family / "merged" / "README.md").read_text()
    assert "What 3 networks, the first of them the base, agree on (TIES)." in text
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if ".pt`" in line]
    assert cells == [["`base.pt`", "base"], ["`b.pt`", "1"], ["`c.pt`", "0.5"]]
    (command,) = [line for line in text.splitlines() if line.startswith("deepalign merge ")]
    before = tensors(family / "merged" / "model.safetensors")
    assert deepalign(*shlex.split(command)[1:], "--force").code == 0
    after = tensors(family / "merged" / "model.safetensors")
    assert all(torch.equal(w, before[n]) for n, w in after.items())

    done = deepalign(
        "merge", "b.pt", "c.pt", "--base", "base.pt", "--combine", "model_stock", "-m", "none", "-o", "stock/"
    )
    assert done.code == 0, done.err
    text = (family / "stock" / "README.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if ".pt`" in line]
    assert cells == [["`base.pt`", "base"], ["`b.pt`", "-"], ["`c.pt`", "-"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("b c --combine ties", "--combine ties needs the base"),
        ("b c --combine sce", "--combine sce needs the base"),
        ("b c --combine linear --base base.pt", "--combine linear makes no use of --base"),
        ("b c --combine karcher --base base.pt", "--combine karcher makes no use of --base"),
        ("b c --density 0.3", "--combine linear makes no use of --density"),
        ("b c --combine sce --base base.pt --lambda 2", "--combine sce makes no use of --lambda"),
        ("b c --combine sce --base base.pt --weights 1,2", "--combine sce makes no use of --weights"),
        ("b c --combine ties --base base.pt --gamma 0.1", "--combine ties makes no use of --gamma"),
        ("b c --combine ties --base base.pt --alpha 0.3", "--alpha is for two inputs"),
        ("b c --combine ties --base base.pt --weights 1,1,1", "3 weights are given for 2 inputs"),
        ("b c --combine ties --base base.pt --weights inf", "weights must be finite"),
        ("b c --combine sce --base base.pt --weights-for fc=1", "sce makes no use of --weights-for"),
        ("b c --weights-for fc", "--weights-for 'fc' has no list of numbers"),
        ("b c --weights-for conv=0,1", "--weights-for 'conv' is for no tensor"),
        ("b c --combine ties --base base.pt --density 1.5", "--density is 1.5"),
        ("b c --combine ties --base base.pt --density 0", "--density is 0"),
        ("b c --combine ties --base base.pt --density 0.5,0", "--density is 0"),
        ("b c --combine ties --base base.pt --density nan", "--density is nan"),
        ("b c --combine ties --base base.pt --density half", "--density is 'half'"),
        ("b c --combine ties --base base.pt --density .5,.5,.5", "3 values of --density are given for 2"),
        ("b c --combine sce --base base.pt --density .5,.4", "takes one density"),
        ("b c --combine breadcrumbs --base base.pt --gamma -1", "--gamma is -1"),
        ("b c --combine della --base base.pt --density .1", "--density 0.1 and --epsilon 0.15 do not go"),
        (
            "b --combine model_stock --base base.pt",
            "model_stock combines 2 networks or more besides the base",
        ),
        ("b --combine nuslerp --base base.pt", "nuslerp combines 2 networks or more"),
        ("b c b --combine nuslerp --base base.pt", "nuslerp combines 2 networks, not 3"),
        ("b c --combine ties --base none.pt --density .5", "none.pt"),
    ],
)
def test_what_does_not_fit_is_refused(family: Path, words: str, message: str) -> None:
    given = [f"{word}.pt" if word in ("b", "c") else word for word in words.split()]
    done = deepalign("merge", *given, "-m", "none", "-o", "x.safetensors")

    assert done.code == 2, done.err
    assert message in done.err.splitlines()[0]
    assert not (family / "x.safetensors").exists()


def test_a_folder_in_shards_and_another_type(family: Path) -> None:
    use = [
        "merge",
        "b.pt",
        "c.pt",
        "-m",
        "none",
        "-o",
        "m/",
        "--dtype",
        "bfloat16",
        "--max-shard-size",
        "1KB",
    ]
    told = deepalign(*use, "--dry-run", "--json").json
    assert {tensor["dtype"] for tensor in told["tensors"]} == {"BF16"}
    merged = deepalign(*use, "--threads", "1", "--json")
    assert merged.code == 0, merged.err
    done = merged.json
    assert done["files"][: len(told["files"])] == told["files"]
    assert len(told["files"]) > 1
    card = (family / "m" / "README.md").read_text()
    assert "--dtype bfloat16 --max-shard-size 1000 -o m/" in card
    assert "| dtype | `bfloat16` |" in card
    b, c = (torch.load(family / f"{one}.pt") for one in "bc")
    for n, w in open_checkpoint(family / "m").items():
        assert w.equal(torch.lerp(b[n], c[n], 0.5).bfloat16())
    again = deepalign("verify", "m/", "m/")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--max-shard-size 1KB -o m.safetensors", "--max-shard-size is for folders"),
        ("--max-shard-size five -o m/", "is not a size"),
        ("--dtype int8 -o m/", "int8"),
        ("--threads 0 -o m/", "--threads"),
    ],
)
def test_options_of_writing_that_make_no_sense(options: str, message: str, family: Path) -> None:
    done = deepalign("merge", "b.pt", "c.pt", "-m", "none", *options.split())
    assert done.code == 2
    assert message in done.err
    assert not list(family.glob("m*"))
