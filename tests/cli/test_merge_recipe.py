"""Recipes of `merge`: read as the command line is, stored in what is made, and written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch

from tests import nets
from tests.cli.subjects import refused
from tests.operations.making import Done, deepalign, generic, listing, metadata, program, save, tensors

RECIPE = """
format = 1
inputs = ["b.pt", "c.pt"]
base = "base.pt"
combine = "ties"
method = "none"
density = [0.4, 0.2]
lambda = 0.5
weights_for = {fc1 = [[1, 0.5], [0.25, 0]], fc2 = 0.5}
output = "r.safetensors"
"""
TYPED = (
    "b.pt", "c.pt", "--base", "base.pt", "--combine", "ties", "-m", "none", "--density", "0.4,0.2",
    "--lambda", "0.5", "--weights-for", "fc1=1,0.5/0.25,0", "--weights-for", "fc2=0.5",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate(("base", "b", "c")):
        save(generic(nets.named_mlp, seed).state_dict(), tmp_path / f"{name}.pt")
    (tmp_path / "r.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def merged(folder: Path, done: Done, name: str) -> dict[str, torch.Tensor]:
    assert done.code == 0, done.err
    return tensors(folder / name)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(w, other[n]) for n, w in one.items())


def test_a_recipe_is_the_command_line_in_a_file(folder: Path) -> None:
    read = merged(folder, deepalign("merge", "--recipe", "r.toml"), "r.safetensors")
    typed = merged(folder, deepalign("merge", *TYPED, "-o", "t.safetensors"), "t.safetensors")
    assert same(read, typed)


def test_what_is_typed_counts_more(folder: Path) -> None:
    done = deepalign("merge", "--recipe", "r.toml", "--density", "1", "-o", "m.safetensors", "--json")
    changed = [w if w != "0.4,0.2" else "1" for w in TYPED]
    wanted = merged(folder, deepalign("merge", *changed, "-o", "t.safetensors"), "t.safetensors")
    assert same(merged(folder, done, "m.safetensors"), wanted)
    assert not (folder / "r.safetensors").exists()
    # another combiner has no use for density, nor for the base: they go with the one that was named
    use = ("--recipe", "r.toml", "--combine", "slerp", "--alpha", "0.1", "--weights-for", "fc1=0.5")
    plain = deepalign("merge", "c.pt", "b.pt", *use)
    assert plain.code == 0, plain.err
    assert metadata(folder / "r.safetensors")["deepalign.input.0"] == "c.pt"
    assert "deepalign.density" not in metadata(folder / "r.safetensors")
    own = deepalign("merge", "--recipe", "r.toml", "--combine", "model_stock", "--force", "--json")
    assert (own.code, own.json["combine"]) == (0, "model_stock"), own.err


def test_weights_and_alpha_take_each_others_place(folder: Path) -> None:
    (folder / "w.toml").write_text('inputs = ["b.pt", "c.pt"]\nweights = [3, 1]\nmethod = "none"\n')
    done = deepalign("merge", "--recipe", "w.toml", "--alpha", "0.5", "--json")
    assert done.code == 0, done.err
    assert (done.json["alpha"], done.json["output"]) == (0.5, "b.merged.safetensors")
    again = deepalign("merge", "--recipe", "w.toml", "--force", "--json")
    assert again.json["weights"] == [3.0, 1.0]


def test_an_output_holds_its_recipe(folder: Path) -> None:
    first = merged(folder, deepalign("merge", *TYPED, "-o", f"{folder}/t.safetensors"), "t.safetensors")
    text = metadata(folder / "t.safetensors")["deepalign.recipe"]
    assert str(folder) not in text  # nobody's folders are told
    table = tomllib.loads(text)
    assert (table["inputs"], table["base"], table["density"]) == (["b.pt", "c.pt"], "base.pt", [0.4, 0.2])
    done = deepalign("merge", "--recipe", "t.safetensors", "-o", "again.safetensors")
    assert same(first, merged(folder, done, "again.safetensors"))
    refused(
        deepalign("merge", "--recipe", "t.safetensors", "--force"), 2, "t.safetensors is one of the inputs"
    )

    save(dict(first), folder / "bare.safetensors")
    refused(deepalign("merge", "--recipe", "bare.safetensors"), 3, "holds no recipe")


def test_a_card_shows_the_recipe(folder: Path) -> None:
    done = deepalign("merge", "b.pt", "c.pt", "-m", "none", "--weights", "2,1", "-o", "out/")
    assert done.code == 0, done.err
    card = (folder / "out" / "README.md").read_text()
    recipe = card.split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(recipe)["weights"] == [2.0, 1.0]
    (folder / "card.toml").write_text(recipe)
    again = merged(
        folder, deepalign("merge", "--recipe", "card.toml", "-o", "n.safetensors"), "n.safetensors"
    )
    assert same(again, tensors(folder / "out" / "model.safetensors"))
    one = merged(folder, deepalign("merge", "--recipe", "out/", "-o", "o.safetensors"), "o.safetensors")
    assert same(again, one)


def test_it_is_written_and_read_again(folder: Path) -> None:
    done = deepalign("merge", *TYPED, "-o", "t.safetensors", "--save-recipe", "s.toml")
    assert done.code == 0, done.err
    (folder / "t.safetensors").rename(folder / "first.safetensors")
    again = merged(folder, deepalign("merge", "--recipe", "s.toml"), "t.safetensors")
    assert same(again, tensors(folder / "first.safetensors"))
    refused(deepalign("merge", *TYPED, "-o", "u.safetensors", "--save-recipe", "s.toml"), 2, "s.toml")
    refused(deepalign("merge", *TYPED, "--dry-run", "--save-recipe", "x.toml"), 2, "--dry-run writes nothing")
    refused(deepalign("merge", *TYPED, "--save-recipe", "x.json"), 2, "which its name does not say")


@pytest.mark.parametrize(
    ("line", "code", "message", "hint"),
    [
        ("dencity = 0.4", 2, "has no use for 'dencity'", "did you mean 'density'?"),
        ("weights-for = 1", 2, "has no use for 'weights-for'", "did you mean 'weights_for'?"),
        ("force = true", 2, "has no use for 'force'", ""),
        ("strict = 1", 2, "strict of the recipe 'x.toml' cannot be 1", ""),
        ("alpha = true", 2, "alpha of the recipe 'x.toml' cannot be True", ""),
        ("alpha = 2", 2, "--alpha", ""),
        ('method = "magic"', 2, "there is no method 'magic'", ""),
        ("inputs = 1979-05-27", 2, "inputs of the recipe", ""),
        ("[weights]\na = 1", 2, "weights of the recipe 'x.toml' cannot be", ""),
        ("format = 2", 2, "the format of the recipe 'x.toml' is not 1", ""),
        ("inputs = [", 2, "cannot be read", ""),
    ],
)
def test_bad_recipes_are_one_sentence(folder: Path, line: str, code: int, message: str, hint: str) -> None:
    inputs = "" if "inputs" in line else 'inputs = ["b.pt", "c.pt"]\n'
    (folder / "x.toml").write_text(f"{inputs}{line}\n")
    before = listing(folder)
    done = deepalign("merge", "--recipe", "x.toml")
    refused(done, code, message)
    assert hint in done.err.splitlines()[1]
    assert listing(folder) == before


def test_a_missing_recipe_and_none_at_all(folder: Path) -> None:
    refused(deepalign("merge", "--recipe", "gone.toml"), 2, "there is no recipe 'gone.toml'")
    refused(deepalign("merge"), 2, "merge needs at least two checkpoints")
    refused(deepalign("merge", "b.pt", "c.pt", "--recipe", "r.toml", "-o", "r.toml", "--force"), 2, "r.toml")


def test_a_checkpoint_decides_of_no_code(folder: Path) -> None:
    from safetensors.torch import save_file

    state = {n: w.contiguous() for n, w in torch.load("b.pt").items()}
    for line, message in (
        ('model = "os:getcwd"', "names model 'os:getcwd', which may run code"),
        ('repair = "net.py:data"', "names repair 'net.py:data'"),
    ):
        told = {"format": "pt", "deepalign.recipe": f'inputs = ["b.pt", "c.pt"]\n{line}\n'}
        save_file(state, "evil.safetensors", told)
        refused(deepalign("merge", "--recipe", "evil.safetensors", "-o", "m.safetensors"), 2, message)


def test_the_schema_has_every_key(folder: Path) -> None:
    from deepalign_cli.cli.merge_recipe import keys_of, schema_of

    params = program().commands["merge"].params
    schema = json.loads(json.dumps(schema_of(params)))
    assert schema["properties"].keys() == keys_of(params).keys() | {"format"}
    assert schema["properties"]["alpha"] | {"description": ""} == {
        "description": "", "type": "number", "minimum": 0.0, "maximum": 1.0,
    }  # fmt: skip
    assert schema["properties"]["activation"]["enum"][0] == "relu"
    assert {"force", "json", "push", "recipe"}.isdisjoint(schema["properties"])
    assert tomllib.loads(RECIPE).keys() <= schema["properties"].keys()
