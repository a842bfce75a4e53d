"""The examples of docs/specs.md are built, saved, and checked against the networks that they describe."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.cli.main import main
from deepalign_cli.errors import SpecError
from deepalign_cli.models.module import make_module
from deepalign_cli.symmetry.resolve import resolve_spec, shapes_of
from deepalign_cli.symmetry.spec import parse_spec, read_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.nets import randomise_

GUIDE = (Path(__file__).parents[2] / "docs" / "specs.md").read_text(encoding="utf-8")
EXAMPLES = {
    name: (code, spec)
    for name, code, spec in re.findall(
        r"<!-- example: (\w+) -->\n```python\n(.*?)```\n\n```toml\n(.*?)```\n", GUIDE, re.DOTALL
    )
}


def saved(name: str, folder: Path) -> tuple[Path, Path]:
    """The example's network with generic weights, and the same function with its units moved at random."""
    code, text = EXAMPLES[name]
    (folder / "net.py").write_text(code)
    (folder / "a.toml").write_text(text)
    rng = torch.Generator().manual_seed(0)
    net = randomise_(make_module(f"{folder / 'net.py'}:make")[0].double(), rng)
    torch.save(net.state_dict(), folder / "a.pt")
    symmetry = Symmetry(read_spec(folder / "a.toml"), shapes_of(open_checkpoint(folder / "a.pt")))
    torch.save(symmetry.apply(symmetry.random(rng), net.state_dict()), folder / "b.pt")
    return folder / "a.pt", folder / "b.pt"


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == GUIDE.count("<!-- example: ") == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_true_of_its_network(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = saved(name, tmp_path)

    spec, model = tmp_path / "a.toml", f"{tmp_path / 'net.py'}:make"
    code = main(["verify", str(a), str(b), "--spec", str(spec), "--model", model, "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (code, told["same"], told["spec"]["passed"]) == (0, True, True)


@pytest.mark.parametrize("name", ["groupnorm", "option_a", "tied", "by_head"])
def test_these_are_not_guessed(name: str, tmp_path: Path) -> None:
    a, _ = saved(name, tmp_path)

    with pytest.raises(SpecError):
        resolve_spec(open_checkpoint(a))


@pytest.mark.slow
def test_the_skip_connection_is_found_by_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = saved("skip", tmp_path)
    main(["inspect", str(a), "--spec"])
    (tmp_path / "read.toml").write_text(capsys.readouterr().out)
    model = ["--model", f"{tmp_path / 'net.py'}:make", "--json"]

    code = main(["verify", str(a), str(b), *model, "--spec", str(tmp_path / "read.toml")])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["spec"]["passed"]) == (3, False)
    code = main(["verify", str(a), str(b), *model])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["spec"]["passed"], told["basis"]) == (0, True, "traced and checked")


@pytest.mark.slow
def test_the_edited_tanh_spec_equals_the_written_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, _ = saved("tanh_average", tmp_path)
    main(["inspect", str(a), "--spec", "--activation", "tanh"])
    found = capsys.readouterr().out
    edited = "\n".join(line for line in found.splitlines() if not line.startswith("pooled"))
    assert edited != found.rstrip("\n")
    (tmp_path / "edited.toml").write_text(edited)

    main(["inspect", str(a), "--from", str(tmp_path / "edited.toml"), "--activation", "tanh", "--json"])

    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [group["kind"] for group in groups.values()] == ["sign", "sign", "sign"]


def test_the_notation_at_the_top_is_read() -> None:
    block = GUIDE.split("```toml\n")[1].split("```")[0]

    assert parse_spec(block).groups() == ("k", "r")
