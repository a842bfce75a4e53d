"""The examples run, and the commands in the README are those that the CI can find."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

import deepalign_cli as da
from deepalign_cli.api.results import Barrier
from deepalign_cli.checkpoint import open_checkpoint
from tests import nets
from tests.docs.shell import Shell
from tests.operations.making import deepalign

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "deepalign_cli" / "demo"
SETUP = "python3.11 -m venv .venv\nsource .venv/bin/activate\npip install -q -c constraints.txt "


@dataclass(frozen=True)
class Example:
    """Runs a script of examples/ in this process; `run` returns what it exits with and what it prints."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, name: str, *words: str | Path) -> tuple[object, str]:
        path = ROOT / "examples" / name
        self.monkeypatch.setattr(sys, "argv", [str(path), *map(str, words)])
        code: object = 0
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as exited:
            code = exited.code
        return code, self.capsys.readouterr().out


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Example:
    return Example(monkeypatch, capsys)


def lines_of_code(text: str) -> int:
    """Lines that are neither empty nor part of the docstring at the top."""
    docstring = ast.parse(text).body[0]
    body = (
        text.splitlines()[docstring.end_lineno :] if ast.get_docstring(ast.parse(text)) else text.splitlines()
    )
    return sum(bool(line.strip()) for line in body)


@pytest.mark.slow
def test_merge_two_does_what_merge_does(tmp_path: Path, example: Example) -> None:
    a, b = DEMO / "a.safetensors", DEMO / "b.safetensors"

    code, out = example.run("merge_two.py", a, b, tmp_path / "library.safetensors")

    assert code == 0
    assert out.startswith("Merged(2 networks; 8 tensors, ")
    assert deepalign("merge", a, b, "-o", tmp_path / "command.safetensors").code == 0
    merged, wanted = (load_file(tmp_path / f"{name}.safetensors") for name in ("library", "command"))
    assert all(torch.equal(merged[name], w) for name, w in wanted.items())
    assert lines_of_code((ROOT / "examples" / "merge_two.py").read_text(encoding="utf-8")) <= 8


def test_barrier_curve_measures_what_barrier_does(shell: Shell, example: Example, tmp_path: Path) -> None:
    inputs = [shell.folder / name for name in ("a.safetensors", "b.safetensors", "digits.safetensors")]

    code, out = example.run("barrier_curve.py", *inputs, tmp_path / "curve.svg")

    assert code == 0
    line = "deepalign barrier a.safetensors b.safetensors --data digits.safetensors -m weights -m deepalign"
    wanted = {row.split()[0]: row.split()[1] for row in shell.run(line)[1].splitlines()[2:]}
    measured = dict(re.findall(r"^(\w+) +barrier ([\d.]+)", out, re.MULTILINE))
    assert measured == wanted
    assert "barrier 1.46" in (tmp_path / "curve.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["merge_two.py", "barrier_curve.py"])
def test_examples_report_errors_without_a_traceback(name: str, tmp_path: Path, example: Example) -> None:
    told, _ = example.run(name, tmp_path / "none", DEMO / "b.safetensors", tmp_path / "out")

    assert isinstance(told, str)
    assert "none" in told
    assert "\n" not in told


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python\n")[1]
    code = text.split("```python\n")[1].split("```")[0]
    assert lines_of_code(code) <= 6
    demo = [open_checkpoint(DEMO / f"{name}.safetensors") for name in "ab"]
    digits = open_checkpoint(DEMO / "digits.safetensors")
    data = TensorDataset((digits["images"].float() / 255 - 0.1307) / 0.3081, digits["labels"].long())
    networks = []
    for weights in demo:
        network = nets.named_mlp((784, 128, 128, 128, 10))
        network.load_state_dict(dict(weights))
        networks.append(network)
    names: dict[str, Any] = {"net_a": networks[0], "net_b": networks[1], "loader": DataLoader(data, 100)}
    monkeypatch.chdir(tmp_path)

    exec(code, names)

    assert isinstance(names["curve"], Barrier)
    assert names["curve"].barrier < 0.05
    wanted = da.merge(demo)
    for network in networks:  # one of them was given the merged weights, or the aligned ones
        assert network.state_dict().keys() == wanted.keys()
    assert any(all(torch.equal(n.state_dict()[k], w) for k, w in wanted.items()) for n in networks)


def test_the_networks_of_own_model_are_trained(shell: Shell) -> None:
    scores = [
        float(s) for s in re.findall(r"([\d.]+) % of the test set right", shell.run("python train.py .")[1])
    ]

    assert len(scores) == 2
    assert min(scores) > 95


def test_the_lines_of_own_models_readme_run(shell: Shell) -> None:
    readme = (ROOT / "examples" / "own_model" / "README.md").read_text(encoding="utf-8")
    lines = [
        line.split("  #")[0].strip() for line in readme.split("```bash\n")[1].split("```")[0].splitlines()
    ]
    assert lines[0] == "python train.py ."

    made = [shell.run(line) for line in lines]

    assert [code for code, _ in made] == [0, 1, 0, 0, 0]  # A and B are two functions, so verify exits with 1
    assert "the spec holds" in made[1][1]
    again, merged = (open_checkpoint(shell.folder / f"{n}.safetensors") for n in ("b-aligned", "repaired"))
    assert "deepalign.spec" in again.metadata
    assert "deepalign.spec" in merged.metadata


@pytest.mark.slow
def test_federated_averages_as_told(tmp_path: Path, example: Example) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_{what}": rng.integers(0, 10 if what == "labels" else 256, (60, *shape), dtype="uint8")
        for split in ("train", "test")
        for what, shape in (("images", (28, 28)), ("labels", ()))
    }
    np.savez(tmp_path / "mnist.npz", **arrays)  # type: ignore[arg-type]

    small = ("--clients", "3", "--rounds", "1", "--epochs", "1", "--skew", "1")
    code, out = example.run("federated.py", "--data", tmp_path / "mnist.npz", *small)

    assert code == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()]
    assert [row[:2] for row in rows[2:]] == [[s, a] for s in ("own", "one") for a in ("plain", "weights")]
    assert all(0 <= float(row[2].removesuffix(" %")) <= 100 for row in rows[2:])


def test_all_examples_are_listed() -> None:
    folder = ROOT / "examples"
    listed = (folder / "README.md").read_text(encoding="utf-8")

    for path in folder.iterdir():
        if path.name not in ("README.md", "__pycache__"):
            assert f"`{path.name}{'/' if path.is_dir() else ''}`" in listed


def test_the_readme_holds_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    found = re.findall(r"^<!-- command: (\w+) -->\n```bash\n(.+?)\n```$", readme, re.MULTILINE | re.DOTALL)

    assert [name for name, _ in found] == ["demo", "test"]
    assert all(block.startswith(SETUP) for _, block in found)
    assert [block.splitlines()[-1].split()[0] for _, block in found] == ["deepalign", "pytest"]


@pytest.mark.slow
def test_the_readme_says_what_the_demo_prints(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = readme.split("| network | accuracy |\n|---|---|\n")[1].split("\n\n")[0]

    table = Shell(tmp_path).run("deepalign demo --plot demo.svg")[1].splitlines()[1:5]

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines()]
    assert [re.split(r" {2,}", line.strip()) for line in table] == rows
    picture = (tmp_path / "demo.svg").read_text(encoding="utf-8")
    assert all(f">{network}</text>" in picture for network, _ in rows[2:])


def test_links_between_the_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for page in (*pages, *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
