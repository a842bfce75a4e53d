"""Tasks on two workers of this machine, and what is said where there are none that can work."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deepalign_cli import cluster as clusters
from deepalign_cli.cluster import Cluster, connected, parse_engine
from deepalign_cli.errors import ClusterError, DeepalignError, MissingExtra, OutputError, UsageError
from deepalign_cli.version import __version__


def square(number: int) -> int:
    return number**2


def dies_once(item: tuple[str, int]) -> int:
    """Kill the worker at the first visit of item 1."""
    flag, number = Path(item[0]), item[1]
    if number == 1 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuses(number: int) -> int:
    raise UsageError(f"{number} is too much.", "give less.")


def breaks(number: int) -> int:
    raise RuntimeError("no\nluck")


@dataclass
class NoWorkers:
    """A client of a scheduler that says what it is told to."""

    told: dict[str, tuple[str, list[str]]] = field(default_factory=dict)

    def run(self, function: Callable[..., Any], *args: Any) -> dict[str, tuple[str, list[str]]]:
        return self.told

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": {}}

    def submit(self, task: Callable[..., Any], item: Any, pure: bool) -> int:
        return 1

    def cancel(self, futures: list[Any]) -> None:
        raise OSError("gone")

    def as_current(self) -> Any:
        return pytest.MonkeyPatch.context()


@pytest.mark.parametrize("text", ["dask", "dask://10.0.0.1:8786", "dask://tls://host:1"])
def test_an_engine_is_dask_here_or_at_an_address(text: str) -> None:
    assert parse_engine(text) == text


@pytest.mark.parametrize("text", ["ray", "dask://", "dask:1", "://x", ""])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="there is no engine") as caught:
        parse_engine(text)
    assert "--engine dask" in caught.value.hint


def test_tasks_are_done_and_a_lost_workers_is_done_again(cluster: Cluster, tmp_path: Path) -> None:
    assert dict(cluster.run(square, range(9))) == {number: number**2 for number in range(9)}
    before, flag = cluster.lost, str(tmp_path / "flag")
    items = [(flag, number) for number in range(4)]
    assert sorted(number for _, number in cluster.run(dies_once, items)) == [0, 1, 2, 3]
    assert cluster.lost == before + 1


def test_what_a_task_raises_is_raised(cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="3 is too much") as refused:
        list(cluster.run(refuses, [3]))
    assert refused.value.hint == "give less."
    with pytest.raises(ClusterError, match="a worker failed: no luck"):
        list(cluster.run(breaks, [3]))
    assert list(cluster.run(square, [3])) == [(3, 9)]


def test_workers_see_what_is_here(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    cluster.check_shared([file], tmp_path)
    assert list(tmp_path.iterdir()) == [file]
    assert clusters._unseen({str(file): 1}) == (__version__, [])
    assert clusters._unseen({str(file): 2, str(tmp_path / "b"): 1})[1] == [str(file), str(tmp_path / "b")]
    with pytest.raises(OutputError, match="cannot be written"):
        cluster.check_shared([], tmp_path / "nowhere")


def test_a_worker_elsewhere_is_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for told, sentence in (
        ((__version__, [str(file)]), f"the worker at tcp://x does not see '{file}'"),
        (("0.0", []), "the worker at tcp://x has deepalign 0.0"),
    ):
        with pytest.raises(ClusterError, match=sentence):
            Cluster(None, NoWorkers({"tcp://x": told})).check_shared([file], tmp_path)


def test_without_workers_the_work_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(futures: object, timeout: float, return_when: str) -> None:
        raise TimeoutError

    monkeypatch.setattr(clusters, "_PATIENCE", 3 * clusters._TURN)
    with pytest.raises(ClusterError, match="all workers of the engine are gone"):
        list(Cluster(SimpleNamespace(wait=wait), NoWorkers()).run(square, [1]))


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_ANSWER", 0.3)
    told = re.escape("the engine at '127.0.0.1:9' does not answer")
    with pytest.raises(ClusterError, match=told) as caught, connected("dask://127.0.0.1:9", 2):
        raise AssertionError
    assert "start a scheduler" in caught.value.hint


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra) as caught, connected("dask", 2):
        raise AssertionError
    assert caught.value.hint == "pip install 'deepalign[cluster]'"
    assert issubclass(ClusterError, DeepalignError)


def test_two_clusters_fit_on_one_machine(cluster: Cluster) -> None:
    """Dask's page has a fixed port by default, which only one cluster can have."""
    with connected("dask", 1) as other:
        assert list(other.run(square, [3])) == list(cluster.run(square, [3])) == [(3, 9)]
