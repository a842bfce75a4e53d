from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint, resumable
from deepalign_cli.checkpoint.sharding import INDEX
from deepalign_cli.errors import CheckpointError, Interrupted, NonFiniteError, OutputError, UsageError
from deepalign_cli.operations.align import align_folder
from deepalign_cli.operations.job import Job, Report
from deepalign_cli.operations.merge import Merging, merge_files
from deepalign_cli.operations.merged_folder import merge_folder
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import Progress
from tests.operations.making import deepalign, save

NONE = Settings("none")
LAYERS, SHARD = 6, 900  # bytes: two layers of 400 bytes in each file


def weights(seed: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    layers = {f"layers.{i}.weight": torch.randn(10, 10, generator=rng) for i in range(LAYERS)}
    return {**layers, "steps": torch.tensor(seed)}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        save(weights(seed), tmp_path / name / "model.safetensors")
    (tmp_path / "a" / "config.json").write_text('{"model_type": "x", "torch_dtype": "float32"}')
    return Job((tmp_path / "a", tmp_path / "b"), tmp_path / "out", NONE, max_shard=SHARD)


def run(job: Job, alpha: float = 0.25, **more: Any) -> Report:
    return merge_folder(job, "out", [], Merging((1 - alpha, alpha)), **more)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def hidden(job: Job) -> list[Path]:
    return sorted(job.output.parent.glob(".out.*"))


def interrupt(job: Job, after: int = 6) -> str:
    """Run a merge that is interrupted when so many tensors are made; returns what the user is told."""
    told: list[float] = []

    def show(share: float, label: str) -> None:
        told.append(share)
        if sum(one > 0 for one in told) == after:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)) as caught:
        run(replace(job, threads=1), progress=Progress(show))
    return getattr(caught.value, "hint", "")


def went_on(report: Report) -> str:
    return next((note for note in report.notes if note.startswith("went on")), "")


# --- what is written ------------------------------------------------------------------------------


def test_shards_hold_what_one_file_would(job: Job) -> None:
    done = run(job)
    one = replace(job, output=job.output.with_suffix(".safetensors"))
    report = merge_files(one, Merging((0.75, 0.25)))

    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert names(job.output) == {*shards, INDEX, "config.json", "README.md"}
    assert done.files == (*shards, INDEX, "config.json", "README.md")
    index = json.loads((job.output / INDEX).read_text())
    assert index["metadata"] == {"total_size": done.bytes} == {"total_size": report.bytes}
    checkpoint, expected = open_checkpoint(job.output), open_checkpoint(one.output)
    assert set(index["weight_map"]) == set(checkpoint) == set(expected)
    for name in expected:
        assert checkpoint[name].equal(expected[name])
    assert checkpoint.metadata == expected.metadata == done.metadata
    assert all(open_checkpoint(job.output / shard).metadata["format"] == "pt" for shard in shards)
    assert done.distances[0] == pytest.approx(report.distances[0])
    assert f"`{done.metadata['deepalign.sha256.0']}`" in (job.output / "README.md").read_text()
    assert not hidden(job)


def test_what_fits_into_one_file_is_one(job: Job) -> None:
    run(replace(job, max_shard=LAYERS * 400 + 8))
    assert names(job.output) == {"model.safetensors", "config.json", "README.md"}


def test_what_one_file_leaves_out_is_written_out(job: Job, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        state = weights(seed)
        del state["layers.5.weight"]
        path = tmp_path / name / "model.safetensors"
        save_file(state, path, metadata={"format": "pt", "layers.5.weight": "layers.0.weight"})
    assert run(job).bytes == LAYERS * 400 - 400 + 8
    checkpoint = open_checkpoint(job.output)
    assert checkpoint["layers.5.weight"].equal(checkpoint["layers.0.weight"])
    assert "layers.5.weight" in json.loads((job.output / INDEX).read_text())["weight_map"]


def test_align_writes_shards_too(job: Job, tmp_path: Path) -> None:
    report = align_folder(job)
    assert INDEX in names(job.output)
    assert set(report.files) == names(job.output)
    moved = report.alignments[0].apply(open_checkpoint(tmp_path / "b"))
    assert all(w.equal(moved[name]) for name, w in open_checkpoint(job.output).items())


@pytest.mark.parametrize(("code", "dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16)])
def test_another_type_is_rounded_to_once(job: Job, tmp_path: Path, code: str, dtype: torch.dtype) -> None:
    run(replace(job, dtype=code))
    checkpoint = open_checkpoint(job.output)
    a, b = weights(0), weights(1)
    for name, w in checkpoint.items():
        expected = torch.lerp(a[name], b[name], 0.25).to(dtype) if name != "steps" else a[name]
        assert w.equal(expected)
    assert json.loads((job.output / "config.json").read_text())["torch_dtype"] == str(dtype)[6:]
    assert checkpoint.metadata["deepalign.dtype"] == str(dtype)[6:]


def test_half_types_become_wide_without_a_rounding(job: Job, tmp_path: Path) -> None:
    halves = [{n: w.bfloat16() for n, w in weights(seed).items() if n != "steps"} for seed in (0, 1)]
    for half, name in zip(halves, "ab", strict=True):
        save(half, tmp_path / name / "model.safetensors")
    run(replace(job, dtype="F32"))
    for name, w in open_checkpoint(job.output).items():
        assert w.equal(torch.lerp(halves[0][name].float(), halves[1][name].float(), 0.25))


# --- a folder that is there -----------------------------------------------------------------------


def test_a_folder_is_replaced_and_what_else_lay_in_it_stays(job: Job) -> None:
    run(replace(job, max_shard=500))
    (job.output / "LICENSE").write_text("mine")
    (job.output / "logs").mkdir()
    (job.output / "logs" / "x").write_text("y")
    with pytest.raises(UsageError):
        run(job)
    run(replace(job, settings=replace(NONE, force=True)), alpha=0.5)

    assert {"LICENSE", "logs", "model-00003-of-00003.safetensors"} < names(job.output)
    assert not [name for name in names(job.output) if "of-00006" in name]
    assert (job.output / "logs" / "x").read_text() == "y"
    assert open_checkpoint(job.output).metadata["deepalign.weights"] == "[0.5, 0.5]"
    assert not hidden(job)


def test_one_file_does_not_hide_behind_an_index(job: Job) -> None:
    run(job)
    (job.output / "LICENSE").write_text("mine")
    before = contents(job.output)
    one = replace(job, max_shard=10**6)
    with pytest.raises(UsageError, match="would be read in place of the weights"):
        run(one)
    assert contents(job.output) == before
    done = run(replace(one, settings=replace(NONE, force=True)), alpha=0.5)
    assert names(job.output) == {"model.safetensors", "config.json", "README.md", "LICENSE"}
    assert done.files == ("model.safetensors", "config.json", "README.md")
    assert open_checkpoint(job.output).metadata["deepalign.weights"] == "[0.5, 0.5]"
    assert not hidden(job)


def test_what_fails_leaves_the_shards_that_were_there(job: Job, tmp_path: Path) -> None:
    run(job)
    before = contents(job.output)
    poisoned = weights(1) | {"layers.3.weight": torch.full((10, 10), torch.nan)}
    save(poisoned, tmp_path / "b" / "model.safetensors")
    with pytest.raises(NonFiniteError):
        run(replace(job, max_shard=10**6, settings=replace(NONE, force=True)))
    assert contents(job.output) == before
    assert not hidden(job)


# --- going on -------------------------------------------------------------------------------------


def test_an_interrupted_merge_goes_on(job: Job, tmp_path: Path) -> None:
    assert interrupt(job) == "2 of 3 shards are done: the same command goes on from there."
    assert not job.output.exists()
    assert len(hidden(job)) == 1
    done = run(job)
    assert went_on(done) == "went on with an interrupted run: 2 of 3 shards were there"
    assert not hidden(job)
    whole = run(replace(job, output=tmp_path / "whole"))
    assert contents(job.output).items() - contents(tmp_path / "whole").items() <= {
        ("README.md", (job.output / "README.md").read_bytes())
    }
    assert done.distances == whole.distances


def a_shard(job: Job) -> Job:
    path = hidden(job)[0] / "model-00001-of-00003.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return job


def cut_journal(job: Job) -> Job:
    journal = hidden(job)[0] / resumable.JOURNAL
    journal.write_text(journal.read_text()[:-20])
    return job


@pytest.mark.parametrize("spoil", [a_shard, cut_journal])
def test_a_shard_that_is_not_as_the_journal_says_is_written_again(
    job: Job, tmp_path: Path, spoil: Callable[[Job], Job]
) -> None:
    interrupt(job)
    done = run(spoil(job))
    assert went_on(done).endswith("1 of 3 shards were there")
    whole = run(replace(job, output=tmp_path / "whole"))
    assert all(
        contents(job.output)[name] == data
        for name, data in contents(tmp_path / "whole").items()
        if name in whole.files[:4]
    )


def other_type(job: Job) -> Job:
    return replace(job, dtype="F16", max_shard=450)


def other_input(job: Job) -> Job:
    save(weights(2), job.inputs[1] / "model.safetensors")
    return job


@pytest.mark.parametrize("change", [other_type, other_input])
def test_what_another_merge_left_is_not_used_and_said(job: Job, change: Callable[[Job], Job]) -> None:
    interrupt(job)
    left = hidden(job)
    done = run(change(job))
    assert not went_on(done)
    assert any(f"'{left[0]}' is left from an interrupted run" in note for note in done.notes)
    assert hidden(job) == left


def test_before_the_first_shard_is_done_nothing_is_left(job: Job) -> None:
    assert not interrupt(job, after=1)
    assert not job.output.exists()
    assert not hidden(job)


def test_a_full_disk_keeps_what_is_done_and_says_so(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepalign_cli.operations import sharded

    plain, calls = sharded.placed_file, []

    def full(path: Path, *rest: Any, **more: Any) -> Any:
        calls.append(path)
        if len(calls) == 3:
            raise OutputError("it needs 5 bytes, but only 3 are free", "free some, or write elsewhere")
        return plain(path, *rest, **more)

    monkeypatch.setattr(sharded, "placed_file", full)
    with pytest.raises(OutputError, match="only 3 are free") as caught:
        run(job)
    assert "of 3 shards are done: the same command goes on from there" in caught.value.hint
    monkeypatch.setattr(sharded, "placed_file", plain)
    assert went_on(run(job)).endswith("2 of 3 shards were there")


def test_a_shard_that_is_missing_is_one_sentence_and_nothing_is_lost(job: Job, tmp_path: Path) -> None:
    whole = run(replace(job, output=tmp_path / "c"))
    use = replace(job, inputs=(tmp_path / "c", tmp_path / "a"), settings=replace(NONE, force=True))
    run(job)
    before, other = contents(job.output), Merging((0.5, 0.5))
    (tmp_path / "c" / whole.files[1]).unlink()
    with pytest.raises(CheckpointError, match=f"the shard '{whole.files[1]}' is missing") as caught:
        merge_folder(use, "out", [], other)
    assert (caught.value.exit_code, caught.value.hint) == (3, "download or copy all of its shards")
    done = deepalign("merge", *use.inputs, "-m", "none", "-o", f"{job.output}/", "--force")
    assert done.code == 3
    assert len(done.err.splitlines()) == 2  # the sentence and the hint
    assert contents(job.output) == before
    assert not hidden(job)


def test_an_input_that_cannot_be_merged_leaves_nothing(job: Job) -> None:
    bad = weights(1)
    bad["layers.5.weight"][0, 0] = torch.nan
    save(bad, job.inputs[1] / "model.safetensors")
    with pytest.raises(NonFiniteError, match=r"layers\.5"):
        run(job)
    assert not job.output.exists()
    assert not hidden(job)


def test_two_at_once_do_not_write_one_folder(job: Job) -> None:
    def show(share: float, label: str) -> None:
        if 0.5 < share < 0.9:
            with pytest.raises(OutputError, match="is being written by another run"):
                run(job)
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        run(replace(job, threads=1), progress=Progress(show))
    run(job)


@pytest.mark.parametrize("when", [0.3, 0.95])
def test_an_input_that_changes_meanwhile_is_noticed(job: Job, when: float) -> None:
    """While it is read, and after all was read."""
    path = job.inputs[1] / "model.safetensors"
    changed: list[bool] = []

    def show(share: float, label: str) -> None:
        if share >= when and not changed:
            changed.append(True)
            path.write_bytes(path.read_bytes()[::-1])

    with pytest.raises(CheckpointError, match="has changed since it was opened"):
        run(replace(job, threads=1), progress=Progress(show))
    assert changed
    assert not job.output.exists()
    assert not hidden(job)
