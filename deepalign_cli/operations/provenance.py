"""Where an output comes from, said in its metadata; the inputs are hashed while the work goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import TracebackType

from deepalign_cli.checkpoint import Checkpoint, tied_metadata
from deepalign_cli.checkpoint.keys import DESIGN_KEY, PREPARATION_KEY
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.stored_spec import spec_metadata
from deepalign_cli.threads import usable_cores
from deepalign_cli.version import __version__

_UNKNOWN = "0" * 64


class Hashes:
    """The sha256 of some checkpoints, computed beside the work, in as many threads as there are cores.

    Each reads one checkpoint from its beginning to its end, about when the work does: what is larger than
    memory then comes from the disk once.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        threads = min(len(checkpoints), usable_cores())
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sha256")
        self._stop = Event()
        self._futures = [self._pool.submit(one.sha256, 1, self._stop) for one in checkpoints]

    def __enter__(self) -> Hashes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stop.set()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def values(self) -> tuple[str, ...]:
        """The hashes in the order of the checkpoints; waits for them."""
        return tuple(future.result() for future in self._futures)

    def of(self, *places: int) -> Callable[[], tuple[str, ...]]:
        """What waits for the hashes at some places, and returns them."""
        return lambda: tuple(self._futures[place].result() for place in places)


def provenance(
    layout: Checkpoint, inputs: Sequence[Checkpoint], spec: Spec, facts: Mapping[str, object], *,
    whole_spec: bool,
) -> dict[str, str]:  # fmt: skip
    """The metadata of an output that takes its names from `layout`; `facts` are the method, seed, and so on.

    The hashes are left at zero: `with_hashes` fills them in without changing the length. What the spec
    rests on is always said; the spec itself is handed on with `whole_spec`.
    """
    handed_on = {
        key: value
        for key, value in layout.metadata.items()
        if not key.startswith("deepalign.") or key in (DESIGN_KEY, PREPARATION_KEY)
    }
    entries = {
        "version": __version__,
        **{key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()},
        **{f"input.{i}": checkpoint.called for i, checkpoint in enumerate(inputs)},
    }
    ours = {f"deepalign.{key}": value for key, value in entries.items()}
    ours |= tied_metadata(layout.infos.values()) | spec_metadata(spec, whole=whole_spec)
    return {"format": "pt", **handed_on, **ours, **with_hashes({}, [_UNKNOWN] * len(inputs))}


def recipe_for(names: Sequence[str], options: str, *, has_base: bool = False) -> str:
    """The recipe of inputs that are called so, the base first if there is one, from its other lines."""
    base = [f"base = {json.dumps(names[0])}"] if has_base else []
    inputs = json.dumps(list(names[has_base:]))
    return "\n".join(["format = 1", f"inputs = {inputs}", *base, options])


def with_hashes(metadata: Mapping[str, str], hashes: Sequence[str]) -> dict[str, str]:
    """The metadata with the inputs' sha256 in it."""
    return {**metadata, **{f"deepalign.sha256.{i}": value for i, value in enumerate(hashes)}}
