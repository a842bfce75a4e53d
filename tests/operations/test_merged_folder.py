from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import CheckpointError, DeepalignError, MismatchError, OutputError, UsageError
from deepalign_cli.models import lookup
from deepalign_cli.operations import session, testbed
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import Merging, merge_files
from deepalign_cli.operations.merged_folder import merge_folder
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import Progress
from tests.cli.subjects import data_set, factory
from tests.hub import StandIn, forget, serve
from tests.operations.making import listing, metadata, network, pair, save, sha256, tensors

NONE = Settings("none")
FORCED = Settings("none", force=True)
STORY = ("merged", ["-o", "out/"])
COMPANIONS = {
    "config.json": b'{"model_type": "x"}', "tokenizer.json": b"{}", "merges.txt": b"a b",
    "spiece.model": b"\0\1",
}  # fmt: skip


def folders(home: Path, kind: str = "named_mlp") -> tuple[Path, Path]:
    """`a` and `b`: folders of one architecture; `a` has companions, code, and other things."""
    for seed, name in enumerate("ab"):
        (home / name).mkdir()
        save(network(kind, seed), home / name / "model.safetensors")
    for name, data in COMPANIONS.items():
        (home / "a" / name).write_bytes(data)
    for name in ("modeling.py", "tokenizer.py", "notes.txt", "training_args.bin", "README.md"):
        (home / "a" / name).write_text("not to be copied")
    return home / "a", home / "b"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what is written ------------------------------------------------------------------------------


def test_a_folder_that_can_be_loaded(tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    out = tmp_path / "out"
    done = merge_folder(Job((a, b), out, NONE), *STORY, Merging((0.7, 0.3)))
    merge_files(Job((a, b), tmp_path / "m.safetensors", NONE), Merging((0.7, 0.3)))

    assert names(out) == {"model.safetensors", "README.md", *COMPANIONS}
    assert done.files == ("model.safetensors", *sorted(COMPANIONS), "README.md")
    assert done.output == out
    assert all((out / name).read_bytes() == data for name, data in COMPANIONS.items())
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    assert names(tmp_path) == {"a", "b", "out", "m.safetensors"}
    assert set(open_checkpoint(out)) == set(tensors(a / "model.safetensors"))


def test_the_card_tells_what_the_metadata_tell(tmp_path: Path) -> None:
    a, b = folders(tmp_path, "plain_cnn_bn")
    merge_folder(Job((a, b), tmp_path / "out", NONE), "my merge", STORY[1])

    text = (tmp_path / "out" / "README.md").read_text()
    told = metadata(tmp_path / "out" / "model.safetensors")
    assert "# my merge\n" in text
    assert '"transformers"' in text
    assert f"`{told['deepalign.sha256.1']}`" in text
    assert told["deepalign.sha256.1"] == sha256(b / "model.safetensors")
    assert "| `a` | 0.5 | - | - |" in text
    assert "| combine | `linear` |" in text
    assert "deepalign merge a b -o out/" in text
    assert "BatchNorm statistics were averaged" in text
    assert "No loss was measured" in text
    assert str(tmp_path) not in text


def test_with_data_it_is_measured_and_the_aligner_the_data_and_the_model_are_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = folders(tmp_path)
    calls: list[str] = []

    def counted(where: Any, name: str) -> None:
        plain = getattr(where, name)

        def call(*args: Any, **more: Any) -> Any:
            calls.append(name)
            return plain(*args, **more)

        monkeypatch.setattr(where, name, call)

    counted(WeightMatching, "__call__")
    counted(testbed, "load_data")
    counted(lookup, "network_for")
    counted(session, "open_network")
    running = RunSettings(factory(tmp_path), data=str(data_set(tmp_path)))
    settings = Settings("weights", {"restarts": 1})
    done = merge_folder(Job((a, b), tmp_path / "out", settings, running=running, repair=running.data), *STORY)

    assert sorted(calls) == ["__call__", "load_data", "network_for", "open_network", "open_network"]
    assert done.files == ("model.safetensors", *sorted(COMPANIONS), "curve.png", "README.md")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "(<curve.png>)" in text
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "| **the merged network** | `data.npz, test, 24 examples` |" in text
    assert str(tmp_path) not in text


@pytest.mark.slow
def test_how_a_network_predicted_is_told(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    merge_folder(Job((a, b), tmp_path / "out"), *STORY)
    text = (tmp_path / "out" / "README.md").read_text()
    for line in (
        "| network.name | `universal-v1` |",
        "| sketches | `8` |",
        "| refine | `auto` |",
        "| seed | `0` |",
    ):
        assert line in text
    assert names(tmp_path / "out") == {"model.safetensors", "README.md"}  # a file has nothing beside it
    assert '"pytorch"' in text


def test_code_is_not_copied_and_that_is_said(tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    (a / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}}')
    done = merge_folder(Job((a, b), tmp_path / "out", NONE), *STORY)
    assert not list((tmp_path / "out").glob("*.py"))
    assert any("which was not copied" in note for note in done.notes)
    assert "which was not copied" in (tmp_path / "out" / "README.md").read_text()


def test_notes_do_not_tell_where_files_lie(tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    (a / "config.json").write_text("{")
    done = merge_folder(Job((a, b), tmp_path / "out", NONE), *STORY)

    assert any(str(tmp_path) in note for note in done.notes)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "did not read config.json" in text
    assert str(tmp_path) not in text
    assert tmp_path.name not in text


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with serve(tmp_path / "home", monkeypatch) as made:
        yield made
    forget()


def test_companions_and_base_models_of_the_hub(online: StandIn, tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    shas = [
        online.add(f"org/{path.name}", {file.name: file.read_bytes() for file in path.iterdir()})
        for path in (a, b)
    ]
    out = tmp_path / "out"
    merge_folder(Job((Path("hf://org/a"), Path("hf://org/b")), out, NONE), *STORY)

    assert names(out) == {"model.safetensors", "README.md", *COMPANIONS}
    text = (out / "README.md").read_text()
    assert 'base_model:\n- "org/a"\n- "org/b"\n' in text
    assert all(f"`hf://org/{name}@{sha}`" in text for name, sha in zip("ab", shas, strict=True))
    assert f"\ndeepalign merge hf://org/a@{shas[0]} hf://org/b@{shas[1]} -o out/\n" in text
    assert not any(file.endswith((".py", ".txt.x", "README.md")) for file in online.downloads())


# --- a folder that is there -----------------------------------------------------------------------


def test_other_files_stay_and_force_is_needed(tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "LICENSE").write_text("mine")
    merge_folder(Job((a, b), out, NONE), *STORY)
    assert names(out) == {"LICENSE", "model.safetensors", "README.md", *COMPANIONS}

    before = listing(tmp_path)
    with pytest.raises(UsageError, match=r"model\.safetensors exists"):
        merge_folder(Job((b, a), out, NONE), *STORY)
    (out / "model.safetensors").rename(tmp_path / "first")
    (out / "README.md").unlink()
    with pytest.raises(UsageError, match=r"config\.json exists"):
        merge_folder(Job((a, b), out, NONE), *STORY)
    merge_folder(Job((a, b), out, FORCED), *STORY, Merging((0.0, 1.0)))
    assert {*listing(tmp_path), "first"} == {*before, "first"}
    assert (out / "LICENSE").read_text() == "mine"
    assert tensors(out / "model.safetensors")["fc1.weight"].equal(
        tensors(b / "model.safetensors")["fc1.weight"]
    )


@pytest.mark.parametrize("settings", [NONE, FORCED])
def test_the_folder_of_an_input_is_refused(settings: Settings, tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    before = listing(tmp_path)
    for out in (a, b, tmp_path / "a" / ".." / "b"):
        with pytest.raises(UsageError, match="is one of the inputs"):
            merge_folder(Job((a, b), out, settings), *STORY)
    with pytest.raises(UsageError, match=r"holds 'model\.safetensors', one of the inputs"):
        merge_folder(Job((a / "model.safetensors", b), a, FORCED), *STORY)
    assert listing(tmp_path) == before


def test_an_index_that_would_be_read_instead(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UsageError, match="would be read in place of the weights"):
        merge_folder(Job((a, b), tmp_path / "out", NONE), *STORY)
    merge_folder(Job((a, b), tmp_path / "out", FORCED), *STORY)
    assert "model.safetensors.index.json" not in names(tmp_path / "out")


def gone(home: Path) -> Job:
    return Job((home / "a.pt", home / "b.pt"), home / "no" / "out", NONE)


def a_file(home: Path) -> Job:
    (home / "out").write_text("x")
    return Job((home / "a.pt", home / "b.pt"), home / "out", FORCED)


def no_input(home: Path) -> Job:
    return Job((home / "a.pt", home / "gone.pt"), home / "out", NONE)


def another_layout(home: Path) -> Job:
    save(network("plain_cnn_bn", 0), home / "c.pt")
    return Job((home / "a.pt", home / "c.pt"), home / "out", NONE)


def broken(home: Path) -> Job:
    (home / "c.pt").write_bytes(b"x")
    return Job((home / "a.pt", home / "c.pt"), home / "out", NONE)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (gone, OutputError, "there is no folder"),
        (a_file, UsageError, "is not a folder"),
        (no_input, UsageError, "does not exist"),
        (another_layout, MismatchError, "conv1"),
        (broken, CheckpointError, "c.pt"),
    ],
)
def test_what_fails_leaves_nothing(
    make: Callable[[Path], Job], kind: type[DeepalignError], message: str, tmp_path: Path
) -> None:
    pair(tmp_path)
    asked = make(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(kind, match=message):
        merge_folder(asked, *STORY)
    assert listing(tmp_path) == before


def test_a_folder_that_comes_into_being_meanwhile(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "out"

    def show(share: float, label: str) -> None:
        out.mkdir(exist_ok=True)
        (out / "theirs").touch()

    with pytest.raises(UsageError, match="exists"):
        merge_folder(Job((a, b), out, NONE), *STORY, progress=Progress(show))
    assert names(tmp_path) == {"a.pt", "b.pt", "out"}
    assert names(out) == {"theirs"}


@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupt_leaves_the_old_or_nothing(exists: bool, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "out"
    if exists:
        merge_folder(Job((a, b), out, NONE), *STORY)
    before = listing(tmp_path)

    def show(share: float, label: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_folder(Job((b, a), out, FORCED), *STORY, progress=Progress(show))
    assert listing(tmp_path) == before


@pytest.mark.slow
def test_a_kill_leaves_no_half_folder(tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    code = f"""
import os, signal
from pathlib import Path
from deepalign_cli.checkpoint import whole_folder
from deepalign_cli.operations import merged_folder
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.settings import Settings
whole_folder.publish = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
job = Job((Path({str(a)!r}), Path({str(b)!r})), Path({str(tmp_path / "out")!r}), Settings("none"))
merged_folder.merge_folder(job, "x", [])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    left = names(tmp_path) - {"a", "b"}
    assert len(left) == 1
    assert left.pop().startswith(".out.")  # hidden; never `out`


def test_json_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    merge_folder(Job((a, b), tmp_path / "out", NONE), *STORY, Merging((3, 1)))
    told = metadata(tmp_path / "out" / "model.safetensors")
    assert json.loads(told["deepalign.weights"]) == [0.75, 0.25]
    assert "| `b.pt` | 0.25 |" in (tmp_path / "out" / "README.md").read_text()
