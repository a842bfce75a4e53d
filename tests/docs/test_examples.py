"""The examples run, and the commands in the README are those that the CI can find."""

from __future__ import annotations

import re
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import merge_files
from tests.docs.shell import Shell

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "deepalign_cli" / "demo"
SETUP = "python3.11 -m venv .venv\nsource .venv/bin/activate\npip install -q -c constraints.txt "


@dataclass(frozen=True)
class Example:
    """Runs a script of examples/ in this process; `run` returns its exit code, its output and its errors."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, name: str, *words: str | Path) -> tuple[int, str, str]:
        path = ROOT / "examples" / name
        self.monkeypatch.setattr(sys, "argv", [str(path), *map(str, words)])
        with pytest.raises(SystemExit) as raised:
            runpy.run_path(str(path), run_name="__main__")
        out, err = self.capsys.readouterr()
        assert isinstance(raised.value.code, int)
        return raised.value.code, out, err


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Example:
    return Example(monkeypatch, capsys)


def test_merge_two_does_what_merge_does(tmp_path: Path, example: Example) -> None:
    a, b = DEMO / "a.safetensors", DEMO / "b.safetensors"

    code, _, err = example.run("merge_two.py", a, b, tmp_path / "library")

    assert code == 0, err
    merge_files(Job((a, b), tmp_path / "command"))
    made, wanted = open_checkpoint(tmp_path / "library"), open_checkpoint(tmp_path / "command")
    for name in wanted:
        torch.testing.assert_close(made[name], wanted[name])


def test_merge_two_reports_errors_without_a_traceback(tmp_path: Path, example: Example) -> None:
    code, _, err = example.run("merge_two.py", tmp_path / "none", DEMO / "b.safetensors", tmp_path / "out")

    assert code == 2
    assert len(err.splitlines()) == 1


def test_barrier_curve_measures_what_barrier_does(shell: Shell, example: Example, tmp_path: Path) -> None:
    inputs = [shell.folder / name for name in ("a.safetensors", "b.safetensors", "digits.safetensors")]

    code, out, err = example.run(
        "barrier_curve.py", *inputs, "--points", "5", "--plot", tmp_path / "curve.svg"
    )

    assert code == 0, err
    line = "deepalign barrier a.safetensors b.safetensors --data digits.safetensors --points 5 -m weights"
    table = shell.run(line)[1]
    wanted = {row.split()[0]: row.split()[1] for row in table.splitlines()[2:]}
    made = dict(re.findall(r"^(\w+) +barrier ([\d.]+)", out, re.MULTILINE))
    assert list(made) == ["none", "weights", "deepalign"]
    for method, barrier in wanted.items():
        assert float(made[method]) == pytest.approx(float(barrier), abs=2e-4)
    assert "barrier 1.46" in (tmp_path / "curve.svg").read_text(encoding="utf-8")


def test_barrier_curve_reports_errors_without_a_traceback(tmp_path: Path, example: Example) -> None:
    code, _, err = example.run(
        "barrier_curve.py", DEMO / "a.safetensors", DEMO / "b.safetensors", tmp_path / "none.npz"
    )

    assert code == 2
    assert len(err.splitlines()) == 1


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


def test_the_readme_says_what_the_demo_prints(shell: Shell) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = readme.split("| network | accuracy |\n|---|---|\n")[1].split("\n\n")[0]

    table = shell.run("deepalign demo --plot demo.svg")[1].splitlines()[1:5]

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines()]
    assert [re.split(r" {2,}", line.strip()) for line in table] == rows
    picture = (shell.folder / "demo.svg").read_text(encoding="utf-8")
    assert all(f">{network}</text>" in picture for network, _ in rows[2:])


def test_links_between_the_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for page in (*pages, *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
