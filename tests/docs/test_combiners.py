"""docs/combiners.md describes every combiner, and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

import deepalign_cli as da
from deepalign_cli.combiners.table import COMBINERS
from tests import nets
from tests.docs.test_examples import ROOT
from tests.operations.making import deepalign, generic, save
from tests.symmetry.builders import seeded

PAGE = (ROOT / "docs" / "combiners.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base a.pt, and b.pt to d.pt, trained from it."""
    base = generic(nets.mlp, 0).state_dict()
    for seed, name in enumerate("abcd"):
        step = {n: w + 0.1 * seed * torch.randn(w.shape, generator=seeded(seed)) for n, w in base.items()}
        save(step, tmp_path / f"{name}.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_combiner_is_described() -> None:
    described = {
        name
        for line in re.findall(r"^- (.*?):", PAGE, re.MULTILINE)
        for name in re.findall(r"\*\*`(\w+)`", line)
    }
    assert set(list(COMBINERS)[:17]) <= described


@pytest.mark.slow
def test_its_commands_run(folder: Path) -> None:
    lines = "".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    plain = [line for line in lines if not re.search("lora-|--data|llama-|latent", line)]
    assert (len(plain), len(lines)) == (7, 15)
    for line in plain:
        done = deepalign(*shlex.split(line)[1:], "--force")
        assert done.code == 0, done.err


def test_its_line_of_python_runs(folder: Path) -> None:
    call = re.search(r"From Python: `(da\.merge\(.*?\))`", PAGE)
    assert call is not None
    a, b, c = "a.pt", "b.pt", "c.pt"
    merged = eval(call[1], {"da": da, "a": a, "b": b, "c": c})
    assert merged.keys() == torch.load(folder / "a.pt").keys()
