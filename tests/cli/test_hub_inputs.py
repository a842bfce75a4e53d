"""Checkpoints of the Hugging Face Hub on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.subjects import WEIGHTS, data_set, factory
from tests.hub import StandIn, forget, serve
from tests.operations.making import deepalign, metadata, network, save, sha256, tensors


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A hub with org/a and org/b, whose files lie in the current folder too."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with serve(tmp_path / "home", monkeypatch) as made:
        for seed, name in enumerate("ab"):
            file = save(network("named_mlp", seed), Path(f"{name}.safetensors"))
            made.add(f"org/{name}", {"model.safetensors": file.read_bytes(), "config.json": b"{}"})
        yield made
    forget()


def commit(hub: StandIn, name: str) -> str:
    return hub.repos[name].branches["main"]


def test_align_and_merge(online: StandIn) -> None:
    here = deepalign("merge", "a.safetensors", "b.safetensors", "-m", "weights", "-o", "here.safetensors")
    there = deepalign("merge", "hf://org/a", "hf://org/b/model.safetensors", "-m", "weights")

    assert (here.code, there.code) == (0, 0)
    made = Path("a.merged.safetensors")
    assert all(w.equal(tensors(Path("here.safetensors"))[name]) for name, w in tensors(made).items())
    told = metadata(made)
    assert told["deepalign.input.0"] == f"hf://org/a@{commit(online, 'org/a')}"
    assert told["deepalign.input.1"] == f"hf://org/b@{commit(online, 'org/b')}/model.safetensors"
    assert told["deepalign.sha256.1"] == sha256(Path("b.safetensors"))


@pytest.mark.slow
def test_outputs_are_named_for_the_repository(online: StandIn) -> None:
    done = deepalign(
        "align", "a.safetensors", "hf://org/b", "hf://org/a@main/model.safetensors", "-m", "none"
    )
    assert done.code == 0
    assert {path.name for path in Path().glob("*.aligned.*")} == {
        "a.aligned.safetensors", "b.aligned.safetensors"
    }  # fmt: skip


def test_two_of_one_name(online: StandIn) -> None:
    done = deepalign("align", "a.safetensors", "hf://org/b", "hf://other/b", "-m", "none", "-o", "out")
    assert done.code == 2
    assert "'hf://org/b' and 'hf://other/b' would both be written" in done.err
    assert online.asked == []


def test_verify_and_inspect(online: StandIn) -> None:
    assert deepalign("verify", "hf://org/a", "a.safetensors", "--json").json["same"] is True
    told = deepalign("inspect", "hf://org/a", "--json").json
    assert set(told["tensors"]) == set(tensors(Path("a.safetensors")))
    assert deepalign("inspect", "hf://org/a").out.startswith(f"hf://org/a@{commit(online, 'org/a')}: ")


def test_offline(online: StandIn) -> None:
    assert deepalign("inspect", "hf://org/a").code == 0
    forget()
    online.asked.clear()
    done = deepalign("merge", "hf://org/a", "hf://org/b", "--offline", "-o", "m")
    assert done.code == 3
    assert done.err.startswith("error: 'hf://org/b' is not in the cache of the Hugging Face Hub")
    assert not Path("m").exists()
    assert deepalign("inspect", "hf://org/a", "--offline").code == 0
    assert online.asked == []
    assert deepalign("inspect", "hf://org/b").code == 0  # the next command may ask again


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["inspect", "hf://org/gone"], 2, "the Hugging Face Hub has no 'hf://org/gone'"),
        (["inspect", "hf://org"], 2, "'hf://org' is not a reference"),
        (["merge", "hf://org/a", "hf://x", "-m", "none", "-o", "m"], 2, "'hf://x' is not a reference"),
        (["align", "hf://org/a", "hf://x", "-m", "none"], 2, "'hf://x' is not a reference"),
    ],
)
def test_errors(args: list[str], code: int, message: str, online: StandIn) -> None:
    done = deepalign(*args)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 2


@pytest.mark.slow
def test_in_a_process_of_its_own_nothing_else_is_said(online: StandIn) -> None:
    command = [sys.executable, "-m", "deepalign_cli", "inspect", "hf://org/a", "--spec"]
    done = subprocess.run(
        command, env={**os.environ, **online.env}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "fc1.weight" in done.stdout


@pytest.mark.slow
def test_barrier_and_landscape(online: StandIn) -> None:
    how = ("--model", factory(Path()), "--data", data_set(Path()), *WEIGHTS, "--points", 3, "--json")
    here = deepalign("barrier", "a.safetensors", "b.safetensors", *how).json
    there = deepalign("barrier", "hf://org/a", "hf://org/b", *how).json
    assert [path["loss"] for path in there["paths"]] == [path["loss"] for path in here["paths"]]

    plane = deepalign("landscape", "hf://org/a", "hf://org/b", *how)
    assert plane.json["output"] == "a.landscape.png"
    assert Path("a.landscape.png").exists()
    asked = len(online.asked)
    offline = deepalign("barrier", "hf://org/a", "hf://org/b", *how, "--offline")
    assert offline.json["paths"][1]["loss"] == here["paths"][1]["loss"]
    assert len(online.asked) == asked
