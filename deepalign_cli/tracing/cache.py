"""Traces kept in the user's cache folder, by a hash of what was traced."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.spec import format_spec, parse_spec
from deepalign_cli.tracing.write import Traced

FORMAT = 4
_MOST = 64 * 2**20


def cache_folder() -> Path:
    """`DEEPALIGN_CACHE`, else `deepalign` in the user's cache folder (XDG)."""
    named = os.environ.get("DEEPALIGN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepalign"


def key_of(parts: Iterable[str]) -> str:
    """A name for what these texts describe together."""
    digest = hashlib.sha256(f"trace {FORMAT}".encode())
    for part in parts:
        digest.update(f"{len(part)}:".encode() + part.encode("utf-8", "replace"))
    return digest.hexdigest()


def cached(key: str) -> Traced | None:
    """The trace of this key, if it is there and whole."""
    path = _path(key)
    try:
        if path.stat().st_size > _MOST:
            return None
        table = json.loads(path.read_text(encoding="utf-8"))
        source, spec = table.pop("source"), table.pop("spec")
        stays = {why: [(str(n), int(axis)) for n, axis in at] for why, at in table.pop("stays").items()}
        turned = parse_spec(text) if (text := table.pop("turned")) else None
        turned = turned and replace(turned, source=source, stays=tuple(map(str, table.pop("turned_stays"))))
        return Traced(replace(parse_spec(spec), source=source), stays, turned=turned, **table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SpecError, RecursionError):
        return None


def keep(key: str, traced: Traced) -> None:
    """Write a trace into the cache; a cache that cannot be written to is no error."""
    table = {f.name: getattr(traced, f.name) for f in fields(traced)}
    table |= {"spec": format_spec(traced.spec), "source": traced.spec.source}
    if traced.turned:
        table |= {"turned": format_spec(traced.turned), "turned_stays": list(traced.turned.stays)}
    path = _path(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".trace-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(table, file)
        Path(temporary).replace(path)


def _path(key: str) -> Path:
    return cache_folder() / "traces" / f"{key}.json"
