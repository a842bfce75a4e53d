from __future__ import annotations

from pathlib import Path

from tests.operations.making import deepalign, metadata


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


def test_the_table() -> None:
    done = deepalign("demo")

    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["network", "A,", "B,", "average", "average"]
    assert all(line.endswith(" %") for line in lines[1:5])
