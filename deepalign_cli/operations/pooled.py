"""Results of earlier runs of `barrier` as one: every pair of every run is one more curve of its method."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepalign_cli.errors import UsageError
from deepalign_cli.measure.curve import Curve
from deepalign_cli.operations.barrier import BarrierReport, PathReport
from deepalign_cli.operations.settings import NAIVE

_HINT = "save one with `deepalign barrier A B --data D --json > run.json`."


def pooled_report(files: Sequence[Path]) -> BarrierReport:
    """The report on all pairs of all runs, each a file of what `barrier --json` printed.

    Raises:
        UsageError: a file is not such a result, is given twice, or has another loss, other data, points or
            methods than the first.
    """
    started = time.perf_counter()
    targets = [file.resolve() for file in files]
    twice = next((file for i, file in enumerate(files) if targets[i] in targets[:i]), None)
    if twice:
        raise UsageError(f"'{twice}' is given twice.", "leave one out: every run counts once.")
    runs = [_read(file) for file in files]
    for file, run in zip(files[1:], runs[1:], strict=True):
        for what in ("loss", "data", "alphas", "methods"):
            if getattr(run, what) != getattr(runs[0], what):
                problem = f"'{file}' and '{files[0]}' differ in their {what}, so they cannot be pooled."
                hint = "run both with the same --loss, --data, --split, --points, --repair and -m."
                raise UsageError(problem, hint)
    paths = tuple(path for run in runs for path in run.paths)
    first, pairs = runs[0], sum(len(run.of(run.methods[0])) for run in runs)
    notes = (f"means over {pairs} pairs of {len(files)} runs",)
    seconds = time.perf_counter() - started
    return BarrierReport(paths, first.alphas, first.loss, first.data, seconds, notes, first.asked, None, ())


def _read(file: Path) -> BarrierReport:
    """One run."""
    try:
        result = json.loads(file.read_bytes())
        if result["command"] != "barrier" or not result["data"]:
            raise ValueError
        alphas, data = _numbers(result["alphas"]), tuple(map(str, result["data"]))
        if len(alphas) < 3 or alphas[0] != 0 or alphas[-1] != 1 or list(alphas) != sorted(set(alphas)):
            raise ValueError
        pairs = result.get("pairs") or [{"moving": "", "paths": result["paths"]}]
        paths = [path for pair in pairs for path in _paths(pair, f"{file.stem} {pair['moving']}", alphas)]
        names = list(dict.fromkeys(path.name for path in paths))
        whole = len(paths) == len(names) * len(pairs) > 0
        if not whole or any(tuple(curve.data for curve in path.curves) != data for path in paths):
            raise ValueError
    except OSError as error:
        raise UsageError(f"'{file}' cannot be read: {error.strerror}.", _HINT) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"'{file}' is not a result of `deepalign barrier --json` with data.", _HINT
        ) from None
    asked = tuple(name for name in names if name != NAIVE) or tuple(names)
    return BarrierReport(tuple(paths), alphas, str(result["loss"]), data, 0.0, (), asked, None, ())


def _paths(pair: Any, moving: str, alphas: tuple[float, ...]) -> list[PathReport]:
    """The paths of one pair; where there are several data, each has a curve for every one."""
    curves: dict[str, list[Curve]] = {}
    distances = {}
    for path in pair["paths"]:
        losses, shares = _numbers(path["loss"]), path["accuracy"] and _numbers(path["accuracy"])
        if {len(losses), len(shares or losses)} != {len(alphas)}:
            raise ValueError
        (seconds,) = _numbers([path["seconds"]])
        name = str(path["method"])
        curves.setdefault(name, []).append(
            Curve(name, alphas, losses, shares or None, seconds, str(path["data"]))
        )
        distances[name] = _numbers([path.get("distance_before"), path.get("distance_after")])
    return [
        PathReport(moving.strip(), name, tuple(each), (distances[name][0], distances[name][1]))
        for name, each in curves.items()
    ]


def _numbers(values: Any) -> tuple[float, ...]:
    """Numbers as JSON has them: null is one that is not finite."""
    if not all(value is None or type(value) in (int, float) for value in values):
        raise ValueError
    return tuple(math.nan if value is None else float(value) for value in values)
