from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.operations.making import deepalign, metadata

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_aligned_averaging_works_and_naive_does_not(tmp_path: Path) -> None:
    first, second = (
        deepalign("demo", "--json", "-o", tmp_path / name).json for name in ("1.safetensors", "2.safetensors")
    )

    scores = first["accuracy"]
    assert (first["schema"], first["command"]) == (1, "demo")
    assert list(scores) == ["a", "b", "naive", "merged"]
    assert all(0 <= score <= 1 for score in scores.values())
    better = max(scores["a"], scores["b"])
    assert min(scores["a"], scores["b"]) >= 0.97
    assert scores["merged"] >= better - 0.01
    assert scores["naive"] <= better - 0.15
    assert first["output"] == str(tmp_path / "1.safetensors")
    assert first["distance_after"] < first["distance_before"]

    assert second["accuracy"] == scores
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()
    assert metadata(tmp_path / "1.safetensors")["deepalign.command"] == "merge"

    again = deepalign("demo", "-o", tmp_path / "1.safetensors")
    assert (again.code, again.out) == (2, "")
    assert "exists" in again.err
    forced = deepalign("demo", "-o", tmp_path / "1.safetensors", "--force", "-q")
    assert (forced.code, forced.out, forced.err) == (0, f"{tmp_path / '1.safetensors'}\n", "")


def test_the_barrier_is_measured() -> None:
    found = deepalign("demo", "--json").json["barrier"]

    naive, aligned = found["paths"]
    assert (naive["method"], aligned["method"]) == ("none", "deepalign")
    assert naive["barrier"] > 1
    assert aligned["barrier"] < naive["barrier"] / 20
    assert len(found["alphas"]) == len(naive["loss"]) == 25


def test_the_tables_and_the_picture(tmp_path: Path) -> None:
    done = deepalign("demo")

    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["network", "A,", "B,", "naive", "average"]
    assert all(line.endswith(" %") for line in lines[1:5])
    assert [line.split()[0] for line in lines[-4:]] == ["method", "none", "deepalign", "wrote"]
    assert (tmp_path / "deepalign-demo.png").read_bytes().startswith(b"\x89PNG")

    kept = deepalign("demo")
    assert kept.code == 0
    assert kept.err.startswith("note: deepalign-demo.png exists already")
    assert deepalign("demo", "--plot", tmp_path / "other.svg", "-q").code == 0
    assert "<svg" in (tmp_path / "other.svg").read_text()


def test_without_matplotlib_there_is_a_table_and_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    done = deepalign("demo")
    assert done.code == 0
    assert "pip install 'deepalign[plot]'" in done.err
    assert not list(tmp_path.iterdir())

    asked = deepalign("demo", "--plot", "x.png")
    assert (asked.code, asked.out) == (1, "")
    assert "pip install 'deepalign[plot]'" in asked.err
