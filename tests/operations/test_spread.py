"""Shards that workers write: the same files, though one of the workers is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.sharding import INDEX
from deepalign_cli.cluster import Cluster
from deepalign_cli.combiners.combiner import Combine
from deepalign_cli.errors import CheckpointError, ClusterError
from deepalign_cli.operations import sharded
from deepalign_cli.operations.align import align_folder
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import Merging
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.spread import write_shard
from tests.cli.subjects import refused
from tests.operations.making import deepalign, save
from tests.operations.test_sharded import contents, hidden, names, run, weights, went_on

ENGINE = {"engine": "dask"}


@dataclass
class Deadly:
    """A combiner that kills its process at one tensor, unless a flag says that it has done so."""

    flag: Path
    combine: Combine

    def __call__(self, name: str, tensors: Sequence[Tensor]) -> Tensor:
        if name == "layers.2.weight" and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.combine(name, tensors)


class Here(Cluster):
    """Runs tasks in this process, up to one at which the cluster goes away."""

    def __init__(self, most: int = 99) -> None:
        super().__init__(None, None)
        self.most = most

    def check_shared(self, files: object, folder: Path) -> None:
        assert folder.is_dir()

    def run(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for number, item in enumerate(items):
            if number == self.most:
                raise ClusterError("the engine is gone.", "start it again.")
            yield item, task(item)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        save(weights(seed), tmp_path / name / "model.safetensors")
    return Job((tmp_path / "a", tmp_path / "b"), tmp_path / "out", Settings("none"), max_shard=900)


@pytest.fixture
def by(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Lets a cluster be the one that is connected."""

    def connect(cluster: object) -> None:
        monkeypatch.setattr(sharded, "connected", lambda engine, workers: nullcontext(cluster))

    return connect


def without_card(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name != "README.md"}


def test_a_killed_workers_shard_is_written_again_and_all_is_the_same(
    job: Job, cluster: Cluster, by: Callable[[object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(replace(job, output=tmp_path / "plain"))
    of, flag = Merging.of, tmp_path / "flag"
    monkeypatch.setattr(Merging, "of", lambda self, names: Deadly(flag, of(self, names)))
    by(cluster)
    done = run(replace(job, **ENGINE))

    assert flag.exists()
    assert any(note.startswith("workers were lost: ") for note in done.notes)
    assert without_card(job.output) == without_card(tmp_path / "plain")
    assert done.distances == plain.distances
    assert done.files == plain.files
    assert not hidden(job)


def test_what_moves_is_moved_by_workers_too(
    job: Job, cluster: Cluster, by: Callable[[object], None], tmp_path: Path
) -> None:
    found = replace(job, settings=Settings("weights", {"restarts": 1}), save=tmp_path / "ab.alignment")
    align_folder(replace(found, output=tmp_path / "found"))
    job = replace(job, alignments=(tmp_path / "ab.alignment",))
    run(replace(job, output=tmp_path / "plain"))
    align_folder(replace(job, output=tmp_path / "plain b"))
    by(cluster)
    run(replace(job, **ENGINE))
    align_folder(replace(job, output=tmp_path / "b out", **ENGINE))

    assert without_card(job.output) == without_card(tmp_path / "plain")
    assert contents(tmp_path / "b out") == contents(tmp_path / "plain b")
    moved, still = (open_checkpoint(tmp_path / name) for name in ("b out", "b"))
    assert any(not w.equal(still[name]) for name, w in moved.items())


def test_where_the_cluster_goes_the_same_command_goes_on(
    job: Job, by: Callable[[object], None], tmp_path: Path
) -> None:
    run(replace(job, output=tmp_path / "plain"))
    by(Here(most=1))
    with pytest.raises(ClusterError, match="the engine is gone") as caught:
        run(replace(job, **ENGINE))
    assert "1 of 3 shards are done: the same command goes on from there." in caught.value.hint
    (left,) = hidden(job)
    assert names(left) == {".deepalign-journal", "model-00001-of-00003.safetensors"}

    by(Here(most=2))
    assert went_on(run(replace(job, **ENGINE))) == "went on with an interrupted run: 1 of 3 shards were there"
    assert without_card(job.output) == without_card(tmp_path / "plain")
    assert INDEX in names(job.output)


def test_a_run_of_one_machine_goes_on_with_what_workers_wrote_and_the_other_way_round(
    job: Job, by: Callable[[object], None]
) -> None:
    by(Here(most=2))
    with pytest.raises(ClusterError):
        run(replace(job, **ENGINE))
    assert went_on(run(job)).startswith("went on with an interrupted run: 2 of 3")
    checkpoint = open_checkpoint(job.output)
    assert checkpoint.metadata["deepalign.sha256.0"] == open_checkpoint(job.inputs[0]).sha256()


def test_a_folder_that_is_another_one_on_the_workers_is_noticed(
    job: Job, by: Callable[[object], None]
) -> None:
    class Elsewhere(Here):
        def run(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
            for item in items:
                written = write_shard(item)
                item.target.unlink()
                yield item, written

    by(Elsewhere())
    with pytest.raises(ClusterError, match="into a folder that is not"):
        run(replace(job, **ENGINE))
    assert not job.output.exists()
    assert not hidden(job)


def test_an_input_that_is_another_one_on_the_workers_is_noticed(
    job: Job, by: Callable[[object], None]
) -> None:
    class Other(Here):
        def run(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
            save(weights(7), job.inputs[1] / "model.safetensors")
            return super().run(task, items)

    by(Other())
    with pytest.raises(CheckpointError, match="is another file on another host"):
        run(replace(job, **ENGINE))
    assert not job.output.exists()


def test_what_an_engine_has_no_use_for_is_refused(job: Job) -> None:
    a, b = job.inputs
    common = ("merge", a, b, "-m", "none", "--engine")
    refused(deepalign(*common, "dask", "-o", "m.safetensors"), 2, "--engine is for folders")
    refused(deepalign(*common, "ray", "-o", "out/"), 2, "there is no engine 'ray'")
    refused(deepalign(*common, "dask", "-o", f"{job.output}/"), 2, "the weights are one file")
    assert not job.output.exists()
