"""A zoo whose families are trained by the workers of a cluster is the zoo that one process trains."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from deepalign_cli.cluster import Cluster
from deepalign_cli.errors import ClusterError
from deepalign_cli.operations import train as operation
from deepalign_cli.train.zoo_training import train_zoo
from tests.operations.making import deepalign
from tests.train.builders import bytes_of, write_data
from tests.train.test_zoo_training import quiet, recipe


class Here(Cluster):
    """Runs tasks in this process, the last one first, and twice as where a worker was taken for lost."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.shared: list[Path] = []

    def check_shared(self, files: Any, folder: Path) -> None:
        self.shared = [*files, folder]

    def run(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for item in reversed(items):
            work, sent = pickle.loads(pickle.dumps((task, item)))
            work(sent)
            yield item, work(sent)


def test_workers_train_the_same_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out, here = write_data(tmp_path), tmp_path / "zoo", Here()
    train_zoo(recipe(tmp_path), data, tmp_path / "whole", quiet)
    monkeypatch.setattr(operation, "connected", lambda engine, workers: nullcontext(here))
    words = ("zoo", tmp_path / "recipe.toml", "--data", data, "--out", out, "--engine", "dask", "--json")

    assert deepalign(*words).json["families"] == 3
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    assert here.shared[-1] == out
    assert data / "tiny.npz" in here.shared
    here.shared.clear()
    assert deepalign(*words).json["families"] == 3
    assert not here.shared  # nothing was missing, so that nobody was asked


def test_a_folder_that_is_another_one_on_the_workers_is_noticed(tmp_path: Path) -> None:
    class Elsewhere(Here):
        def run(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
            return ((item, None) for item in items)

    with pytest.raises(ClusterError, match="into a folder that is not the one here"):
        train_zoo(
            recipe(tmp_path), write_data(tmp_path), tmp_path / "zoo", quiet,
            connect=lambda: nullcontext(Elsewhere()),
        )  # fmt: skip
