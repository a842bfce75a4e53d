"""What is hostile, broken or does not fit: a sentence, a hint, the exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from deepalign_cli.aligners import weights
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.stream import Stream
from tests.checkpoint.builders import call, safetensors_bytes, torch_zip
from tests.nets import named_mlp
from tests.operations.making import (
    deepalign,
    generic,
    interrupted,
    listing,
    metadata,
    network,
    pair,
    save,
    tensors,
)

Case = Callable[[Path], tuple[list[object], list[str]]]  # what to run in a folder, and what the message says


def pickled(folder: Path, body: bytes) -> Path:
    return torch_zip(folder / "bad.pt", b"\x80\x02" + body + b".")


def os_system(folder: Path) -> tuple[list[object], list[str]]:
    bad = pickled(folder, call(os.system, f"touch {folder / 'sentinel'}"))
    return [bad, folder / "b.pt"], ["bad.pt"]


def builtins_eval(folder: Path) -> tuple[list[object], list[str]]:
    bad = pickled(folder, call(eval, f"open({str(folder / 'sentinel')!r}, 'w')"))
    return [folder / "a.pt", bad], ["bad.pt"]


def bare_pickle(folder: Path) -> tuple[list[object], list[str]]:
    bad = folder / "bad.pt"
    bad.write_bytes(b"\x80\x02" + call(os.system, f"touch {folder / 'sentinel'}") + b".")
    return [bad, folder / "b.pt"], ["bad.pt", "pickle"]


def truncated(folder: Path) -> tuple[list[object], list[str]]:
    whole = save(network("named_mlp", 0), folder / "bad.safetensors")
    whole.write_bytes(whole.read_bytes()[:-100])
    return [folder / "a.pt", whole], ["bad.safetensors"]


def truncated_zip(folder: Path) -> tuple[list[object], list[str]]:
    bad = folder / "bad.pt"
    bad.write_bytes((folder / "a.pt").read_bytes()[:-300])
    return [bad, folder / "b.pt"], ["bad.pt"]


def giant_header(folder: Path) -> tuple[list[object], list[str]]:
    bad = folder / "bad.safetensors"
    bad.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    return [bad, folder / "b.pt"], ["bad.safetensors", "header"]


def overlapping(folder: Path) -> tuple[list[object], list[str]]:
    bad = folder / "bad.safetensors"
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    bad.write_bytes(safetensors_bytes({"x": one, "y": one}, b"\0" * 8))
    return [bad, folder / "b.pt"], ["bad.safetensors"]


def zip_bomb(folder: Path) -> tuple[list[object], list[str]]:
    bad = torch_zip(folder / "bad.pt", b"\x80\x02" + b"N" * 20_000_000, compression=zipfile.ZIP_DEFLATED)
    return [bad, folder / "b.pt"], ["bad.pt", "compressed"]


def escaping_shard(folder: Path) -> tuple[list[object], list[str]]:
    (folder / "x").write_bytes(b"secret")
    (folder / "sharded" / "deep").mkdir(parents=True)
    index = folder / "sharded" / "deep" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "../../x"}}))
    return [index.parent, folder / "b.pt"], ["../../x"]


def not_a_checkpoint(folder: Path) -> tuple[list[object], list[str]]:
    (folder / "bad.txt").write_text("hello")
    return [folder / "bad.txt", folder / "b.pt"], ["bad.txt"]


def empty_file(folder: Path) -> tuple[list[object], list[str]]:
    (folder / "bad.pt").touch()
    return [folder / "bad.pt", folder / "b.pt"], ["bad.pt", "empty"]


def folder_without_weights(folder: Path) -> tuple[list[object], list[str]]:
    (folder / "hf").mkdir()
    (folder / "hf" / "config.json").write_text("{}")
    return [folder / "hf", folder / "b.pt"], ["hf"]


def poisoned(folder: Path, value: float) -> Path:
    state = torch.load(folder / "b.pt")
    state["fc2.weight"][3, 1] = value
    return save(state, folder / "bad.pt")


def nan(folder: Path) -> tuple[list[object], list[str]]:
    return [folder / "a.pt", poisoned(folder, float("nan"))], ["'fc2.weight'", "bad.pt", "NaN"]


def inf(folder: Path) -> tuple[list[object], list[str]]:
    return [poisoned(folder, float("-inf")), folder / "b.pt"], ["'fc2.weight'", "bad.pt", "Inf"]


def both_infs(folder: Path) -> tuple[list[object], list[str]]:
    state = torch.load(poisoned(folder, float("inf")))
    state["fc2.weight"][0, 0] = float("-inf")
    return [folder / "a.pt", save(state, folder / "bad.pt")], ["'fc2.weight'", "bad.pt"]


def other_shape(folder: Path) -> tuple[list[object], list[str]]:
    bad = save(generic(lambda: named_mlp((12, 16, 24, 5)), 0), folder / "bad.pt")
    parts = [
        f"'fc2.weight' is F32 [20, 16] in '{folder / 'a.pt'}'",
        f"'fc2.weight' is F32 [24, 16] in '{bad}'",
    ]
    return [folder / "a.pt", bad], parts


def missing_and_extra(folder: Path) -> tuple[list[object], list[str]]:
    state = torch.load(folder / "b.pt")
    state["fc9.bias"] = state.pop("fc2.bias")
    bad = save(state, folder / "bad.pt")
    return [folder / "a.pt", bad], [f"'{bad}' lacks 'fc2.bias'", f"'{folder / 'a.pt'}' lacks 'fc9.bias'"]


def floats_against_integers(folder: Path) -> tuple[list[object], list[str]]:
    state = torch.load(folder / "b.pt")
    state["fc2.bias"] = state["fc2.bias"].long()
    return [folder / "a.pt", save(state, folder / "bad.pt")], ["'fc2.bias' is I64"]


def gone(folder: Path) -> tuple[list[object], list[str]]:
    return [folder / "a.pt", folder / "gone.pt"], ["gone.pt does not exist"]


CASES: list[tuple[Case, int, str]] = [
    (os_system, 3, "unsafe"),
    (builtins_eval, 3, "unsafe"),
    (bare_pickle, 3, "unsafe"),
    (truncated, 3, "checkpoint"),
    (truncated_zip, 3, "checkpoint"),
    (giant_header, 3, "checkpoint"),
    (overlapping, 3, "checkpoint"),
    (zip_bomb, 3, "checkpoint"),
    (escaping_shard, 3, "checkpoint"),
    (not_a_checkpoint, 3, "checkpoint"),
    (empty_file, 3, "checkpoint"),
    (folder_without_weights, 3, "checkpoint"),
    (nan, 3, "nonfinite"),
    (inf, 3, "nonfinite"),
    (both_infs, 3, "nonfinite"),
    (other_shape, 3, "mismatch"),
    (missing_and_extra, 3, "mismatch"),
    (floats_against_integers, 3, "mismatch"),
    (gone, 2, "usage"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pair(tmp_path)
    return tmp_path


def told_well(argv: list[object], code: int, kind: str, parts: list[str], folder: Path) -> None:
    """Run it in both tongues: the error is right, and the folder is as it was."""
    before = listing(folder)
    done, told = deepalign(*argv), deepalign(*argv, "--json")

    lines = done.err.splitlines()
    assert (done.code, done.out, len(lines)) == (code, "", 2), done
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert all(not line.endswith(".") for line in lines)
    assert (told.code, told.out) == (code, "")
    assert told.error["code"] == kind
    assert told.error["hint"]
    for part in parts:
        assert part in lines[0]
        assert part in told.error["message"]
    assert listing(folder) == before
    assert not (folder / "sentinel").exists()


@pytest.mark.parametrize(
    "command", ["align", *(pytest.param(other, marks=pytest.mark.slow) for other in ("merge", "verify"))]
)
@pytest.mark.parametrize(("case", "code", "kind"), CASES, ids=lambda x: getattr(x, "__name__", None))
def test_inputs(command: str, case: Case, code: int, kind: str, folder: Path) -> None:
    inputs, parts = case(folder)
    out = [] if command == "verify" else ["-o", folder / "out.safetensors"]
    told_well([command, *inputs, *out], code, kind, parts, folder)


@pytest.mark.parametrize("case", [os_system, truncated, giant_header, zip_bomb, escaping_shard, gone])
def test_inspect(case: Case, folder: Path) -> None:
    inputs, parts = case(folder)
    (bad,) = [path for path in inputs if path not in (folder / "a.pt", folder / "b.pt")]
    code, kind = next((code, kind) for known, code, kind in CASES if known is case)
    told_well(["inspect", bad], code, kind, parts, folder)


# --- outputs --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", ["itself", "symlink", "hardlink", "dots"])
@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("option", ["-o", "--save-alignment"])
def test_an_input_is_never_written_to(way: str, force: list[str], option: str, folder: Path) -> None:
    a, b = folder / "a.pt", folder / "b.pt"
    out = folder / "link.pt"
    if way == "itself":
        out = b
    elif way == "symlink":
        out.symlink_to(b)
    elif way == "hardlink":
        out.hardlink_to(b)
    else:
        out = folder / ".." / folder.name / "b.pt"
    content = b.read_bytes()
    more = [] if option == "-o" else ["-o", folder / "o.safetensors"]
    for command in ("align", "merge"):
        argv = [command, a, b, *more, option, out, *force]
        told_well(argv, 2, "usage", ["is one of the inputs"], folder)
    assert b.read_bytes() == content


def test_a_file_of_an_input_folder_is_never_written_to(folder: Path) -> None:
    (folder / "hf").mkdir()
    weights = save(network("named_mlp", 3), folder / "hf" / "model.safetensors")
    argv = ["align", folder / "a.pt", folder / "hf", "-o", weights, "--force"]
    told_well(argv, 2, "usage", ["is one of the inputs"], folder)


@pytest.mark.slow
def test_an_output_that_exists_stays(folder: Path) -> None:
    (folder / "out.safetensors").write_text("mine")
    for command in ("align", "merge"):
        argv = [command, folder / "a.pt", folder / "b.pt", "-o", folder / "out.safetensors"]
        told_well(argv, 2, "usage", ["out.safetensors exists"], folder)
    assert (folder / "out.safetensors").read_text() == "mine"
    assert deepalign(*argv, "--force").code == 0


def test_an_output_that_is_a_folder(folder: Path) -> None:
    (folder / "out").mkdir()
    argv = ["align", folder / "a.pt", folder / "b.pt", "-o", folder / "out", "--force"]
    told_well(argv, 2, "usage", ["out is a folder"], folder)


def test_an_output_in_a_folder_that_is_missing(folder: Path) -> None:
    argv = ["merge", folder / "a.pt", folder / "b.pt", "-o", folder / "no" / "out.safetensors"]
    told_well(argv, 1, "output", ["there is no folder"], folder)


def test_an_output_without_a_name(folder: Path) -> None:
    done = deepalign("merge", folder / "a.pt", folder / "b.pt", "-o", "")
    assert done.code in (1, 2)
    assert "Traceback" not in done.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    a, b = (
        save(generic(lambda: named_mlp((600, 500, 5)), seed), tmp_path / f"{name}.pt")
        for seed, name in enumerate("ab")
    )
    argv = ["align", a, b, "-m", "none", "-o", small_disk / "out.safetensors"]
    told_well(argv, 1, "output", ["out.safetensors needs ", "are free on its disk"], tmp_path)
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
def test_half_types_that_overflow_are_named(folder: Path) -> None:
    a, b = pair(folder, "named_mlp", torch.float16)
    kept = folder / "kept.safetensors"
    deepalign("align", a, b, "--activation", "relu", "-o", folder / "o", "--save-alignment", kept)
    parts, told = tensors(kept), metadata(kept)
    save_file(parts | {"scale/fc1": torch.full((16,), 1e9, dtype=torch.float64)}, kept, told)
    argv = ["align", a, b, "--alignment", kept, "-o", folder / "p"]
    told_well(argv, 3, "mismatch", ["'fc1.", "' overflows its type"], folder)


# --- when deepalign itself fails ------------------------------------------------------------------


def broken(*args: object, **kwargs: object) -> None:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("debug", ["", "0", "1"])
def test_a_traceback_only_when_asked_for(debug: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "alignments", broken)
    monkeypatch.setenv("DEEPALIGN_DEBUG", debug)
    before = listing(folder)
    done = deepalign("align", folder / "a.pt", folder / "b.pt", "-o", folder / "o.safetensors")

    assert (done.code, done.out) == (1, "")
    assert ("Traceback" in done.err) == (debug == "1")
    assert "error: deepalign failed unexpectedly: ZeroDivisionError: a bug\n" in done.err
    assert "DEEPALIGN_DEBUG=1" in done.err.splitlines()[-1]
    assert listing(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("problem", [KeyboardInterrupt, MemoryError, OSError(5, "Input/output error")])
def test_a_write_that_is_broken_off_leaves_nothing(
    problem: BaseException | type[BaseException], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, calls = Stream._made, []

    def fail_at_the_third(self: Stream, name: str, *parts: Any) -> torch.Tensor:
        calls.append(name)
        if len(calls) == 3:
            raise problem
        return made(self, name, *parts)

    monkeypatch.setattr(Stream, "_made", fail_at_the_third)
    before = listing(folder)
    done = deepalign("merge", folder / "a.pt", folder / "b.pt", "-o", folder / "o.safetensors")

    assert (done.code, done.out) == (130 if problem is KeyboardInterrupt else 1, "")
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert "unexpectedly" not in done.err
    assert listing(folder) == before


def test_ctrl_c_exits_130_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

    monkeypatch.setattr(weights, "first_start", slow)
    before = listing(folder)
    done = interrupted(
        "align", folder / "a.pt", folder / "b.pt", "-m", "weights", "-o", folder / "o.safetensors"
    )

    assert (done.code, done.out) == (128 + signal.SIGINT, "")
    assert done.err.startswith("error: Interrupted")
    assert len(done.err.splitlines()) == 1
    assert listing(folder) == before
