"""Tasks on an engine that others wrote and run: Dask, on this machine or on many hosts.

A task is a function and an item, both sent to a worker; what it reads and writes lies in folders that all
hosts mount at the same path. A worker that is lost loses nothing else: its task is given to another one. So
tasks must be such that they can be done twice.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from deepalign_cli.errors import ClusterError, DeepalignError, OutputError, UsageError, one_line
from deepalign_cli.extras import require
from deepalign_cli.version import __version__

ENGINE = "dask"
_ANSWER = 15.0  # seconds that an address has to answer, and to have a worker
_PATIENCE = 60.0  # seconds without any worker until the work is given up
_TURN = 2.0  # seconds between two looks at the workers

Item = TypeVar("Item")
Result = TypeVar("Result")


def parse_engine(text: str) -> str:
    """What `--engine` may be: dask, or dask://HOST:PORT.

    Raises:
        UsageError: it is neither.
    """
    name, separator, address = text.partition("://")
    if name != ENGINE or bool(separator) != bool(address):
        raise UsageError(
            f"there is no engine '{text}'.", "--engine dask, or dask://HOST:PORT of a scheduler."
        )
    return text


@contextmanager
def connected(engine: str, workers: int) -> Iterator[Cluster]:
    """The cluster of an engine: that at its address or, without one, so many processes of this machine.

    Raises:
        MissingExtra: Dask is not installed. ClusterError: the address does not answer, or has no workers.
    """
    dask = require("distributed", "cluster", f"--engine {ENGINE}")
    address = engine.partition("://")[2]
    with ExitStack() as stack:
        stack.enter_context(_silent())
        if address:
            place = address if "://" in address else f"tcp://{address}"
        else:
            scratch = stack.enter_context(TemporaryDirectory(prefix="deepalign-", ignore_cleanup_errors=True))
            # No limit: the pages of files that are mapped would count as the worker's memory.
            place = stack.enter_context(dask.LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=None, dashboard_address="127.0.0.1:0",
                local_directory=scratch, silence_logs=logging.CRITICAL,
            ))  # fmt: skip
        try:
            client = stack.enter_context(dask.Client(place, timeout=_ANSWER, set_as_default=False))
            client.wait_for_workers(1, timeout=_ANSWER)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            hint = "start a scheduler and workers there (docs/files.md), or leave the address out."
            lacks = "has no workers" if "client" in locals() else f"does not answer: {one_line(error)}"
            raise ClusterError(f"the engine at '{address}' {lacks}.", hint) from None
        yield Cluster(dask, client)


@dataclass
class Cluster:
    """A connection to workers. `lost` counts those that went while tasks were being done."""

    dask: Any
    client: Any
    lost: int = 0
    _known: set[str] = field(default_factory=set)

    def run(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """The items and what their tasks return, as they are done. Tasks that are left are cancelled.

        Raises:
            DeepalignError: what a task raised. ClusterError: the workers, or the scheduler, are gone.
        """
        self._workers()
        futures = {self.client.submit(task, item, pure=False): item for item in items}
        try:
            while futures:
                for future in self._done(futures):
                    yield futures.pop(future), self._result(future)
        finally:
            with suppress(Exception):  # the connection may be what has failed
                self.client.cancel(list(futures))

    def check_shared(self, files: Iterable[Path], folder: Path) -> None:
        """Check that all workers see these files as they are here, and what is written into a folder.

        Raises:
            ClusterError: one does not, or has another version of deepalign.
            OutputError: the folder cannot be written.
        """
        sizes = {str(path.absolute()): path.stat().st_size for path in files}
        probe = folder.absolute() / f".deepalign-{secrets.token_hex(8)}"
        try:
            probe.touch()
            told = self._told(_unseen, sizes | {str(probe): 0})
        except OSError as error:
            raise OutputError(
                f"'{folder}' cannot be written: {error.strerror}.", "check the folder."
            ) from None
        finally:
            probe.unlink(missing_ok=True)
        for worker, (version, unseen) in told.items():
            if version != __version__:
                problem = f"the worker at {worker} has deepalign {version}, and this is {__version__}."
                raise ClusterError(problem, "install the same version on all hosts.")
            if unseen:
                what = str(folder) if str(probe) in unseen else unseen[0]
                hint = "inputs and output must lie in folders that all hosts mount at the same path."
                raise ClusterError(f"the worker at {worker} does not see '{what}' as it is here.", hint)

    def _told(self, function: Callable[..., Result], *args: object) -> Mapping[str, Result]:
        """What a function returns on each worker that there is now."""
        try:
            told: Mapping[str, Result] = self.client.run(function, *args)
        except Exception as error:
            raise self._explained(error) from None
        return told

    def _done(self, futures: Mapping[Any, Any]) -> list[Any]:
        """Some futures that are done: waits for the first, as long as there are workers."""
        idle = 0.0
        while True:
            with suppress(TimeoutError), self.client.as_current():
                return list(self.dask.wait(list(futures), _TURN, return_when="FIRST_COMPLETED").done)
            idle = 0.0 if self._workers() else idle + _TURN
            if idle >= _PATIENCE:
                problem = "all workers of the engine are gone."
                raise ClusterError(problem, "start new ones.")

    def _workers(self) -> set[str]:
        """The workers that there are now; counts those that are gone."""
        now = set(self.client.scheduler_info(n_workers=-1)["workers"])
        self.lost += len(self._known - now)
        self._known = now
        return now

    def _result(self, future: Any) -> Any:
        self._workers()
        try:
            return future.result()
        except DeepalignError:
            raise
        except Exception as error:
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> ClusterError:
        """What has become of a task, in a sentence."""
        if isinstance(error, self.dask.KilledWorker):
            problem = "several workers died at the same task, one after another."
            return ClusterError(problem, "see that they have enough memory.")
        if isinstance(error, OSError | self.dask.comm.CommClosedError | self.dask.client.CancelledError):
            return ClusterError(f"the engine is gone: {one_line(error)}.", "start it again.")
        hint = "all hosts need the same versions of Python, deepalign and the packages of its options."
        return ClusterError(f"a worker failed: {one_line(error)}.", hint)


def _unseen(sizes: Mapping[str, int]) -> tuple[str, list[str]]:
    """The version here, and the files that are not here, or of another size."""
    return __version__, [path for path, size in sizes.items() if _size(path) != size]


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


@contextmanager
def _silent() -> Iterator[None]:
    """Without the engine's own messages: what matters of them is told."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
