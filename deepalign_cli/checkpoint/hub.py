"""Checkpoints of the Hugging Face Hub: hf://org/repo[@revision][/file or folder], through the Hub's cache.

A reference stands wherever a path does: `Path` makes one slash of two, so hf:/org/repo is understood too.
Only weights and what says how to read them are fetched; nothing in a file is executed. Importing this
loads neither torch nor huggingface_hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from deepalign_cli.checkpoint.folder import choose_weights, find_weights, shard_names
from deepalign_cli.checkpoint.hub_errors import Unreachable, explained, silence
from deepalign_cli.errors import CheckpointError, UsageError

_REFERENCE = re.compile(
    r"hf://?(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?", re.ASCII | re.DOTALL
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".json")
_BRANCH = "main"
_INDEX = ".index.json"


@dataclass(frozen=True)
class Reference:
    """A repository of models, a branch, tag or commit of it, and a file or folder in it."""

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"hf://{self.repo}{revision}{f'/{self.file}' if self.file else ''}"

    @property
    def names_file(self) -> bool:
        """Whether what is named in the repository is a file, by its ending."""
        return self.file is not None and self.file.endswith(_FILES)


@dataclass(frozen=True)
class Fetched:
    """A file or a snapshot's folder in the Hub's cache; `reference` names the commit that it is of."""

    path: Path
    reference: Reference
    notes: tuple[str, ...] = ()


def is_reference(source: str | Path) -> bool:
    """Whether this is written as a reference to the Hub and not as a path."""
    return os.fspath(source).startswith("hf:/")


def parse_reference(source: str | Path) -> Reference:
    """What `hf://org/repo[@revision][/file]` names; a / in a revision is written %2F.

    Raises:
        UsageError: it is malformed.
    """
    text = os.fspath(source)
    match = _REFERENCE.fullmatch(text)
    file, revision = (match["file"], match["revision"]) if match else (None, None)
    revision = unquote(revision) if revision else None
    parts = [*(file or "x").split("/"), *(revision or "x").split("/")]
    if match is None or not text.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"'{shown_source(source)}' is not a reference to the Hugging Face Hub.",
            "write hf://org/repo, hf://org/repo@revision or hf://org/repo/file.safetensors.",
        )
    return Reference(match["repo"], revision, file)


def shown_source(source: str | Path) -> str:
    """A path or reference for the user to see: a reference has both of its slashes."""
    return re.sub(r"^hf:/(?!/)", "hf://", os.fspath(source))


_offline = False


def set_offline(value: bool) -> None:
    """Whether this process leaves the Hub alone from here on, and takes what its cache holds."""
    global _offline
    _offline = value


def is_offline() -> bool:
    """Whether the Hub is left alone, by `set_offline` or by HF_HUB_OFFLINE."""
    if _offline:
        return True
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


@cache  # one process uses one state of a branch that moves
def fetch(reference: Reference) -> Fetched:
    """The file, or the folder with its weights and config.json, fetched unless the Hub's cache holds it.

    Raises:
        UsageError: the Hub has no such thing. CheckpointError: it could not be fetched, or has no weights.
    """
    cached = _cached(reference)
    if is_offline():
        if cached is None:
            raise CheckpointError(
                f"'{reference}' is not in the cache of the Hugging Face Hub, and this run is offline.",
                "run it once without --offline and HF_HUB_OFFLINE.",
            )
        return cached
    try:
        with explained(str(reference)), silence():
            return _fetch_file(reference) if reference.names_file else _fetch_folder(reference)
    except Unreachable:
        if cached is None:
            raise
        note = f"the Hugging Face Hub cannot be reached: '{cached.reference}' was taken from its cache"
        return replace(cached, notes=(note,))


def fetch_beside(
    reference: Reference, wanted: Callable[[str], bool], limit: int
) -> tuple[Mapping[str, Path], tuple[str, ...]]:
    """The files in the folder of what was fetched whose names are `wanted`, and notes on those left out.

    Left out is what is longer than `limit` bytes. `reference` is that of `Fetched`.

    Raises:
        UsageError, CheckpointError: as `fetch`.
    """
    commit, home = reference.revision, _home(reference)
    assert commit is not None
    if is_offline():
        folder = _repository(reference.repo) / "snapshots" / commit / home
        return {path.name: path for path in sorted(folder.iterdir()) if wanted(path.name)}, ()
    with explained(str(reference)), silence():
        sizes = _listing(reference.repo, commit)[1]
        names = [name for name in _children(sizes, home) if wanted(name)]
        long = [name for name in names if (sizes[_under(home, name)] or 0) > limit]
        paths = {n: _download(reference.repo, _under(home, n), commit) for n in names if n not in long}
    return paths, tuple(f"'{name}' was left out: it is longer than {limit:,} bytes" for name in long)


def _fetch_file(reference: Reference) -> Fetched:
    file = reference.file or ""
    path = _download(reference.repo, file, reference.revision)
    commit = path.parents[len(PurePosixPath(file).parts) - 1].name
    if file.endswith(_INDEX):
        for shard in shard_names(path):
            _download(reference.repo, _under(_home(reference), shard), commit)
    return Fetched(path, Reference(reference.repo, commit, file))


def _fetch_folder(reference: Reference) -> Fetched:
    repo, home = reference.repo, reference.file or ""
    commit, sizes = _listing(repo, reference.revision)
    children = _children(sizes, home)
    weights = choose_weights(children, str(reference))
    names = ["config.json"] if "config.json" in children else []
    if reference.revision is None or not _COMMIT.fullmatch(reference.revision):
        # By the branch's name, so that the cache knows later what that stood for.
        _download(repo, _under(home, (*names, weights)[0]), reference.revision)
    paths = [_download(repo, _under(home, name), commit) for name in (*names, weights)]
    if weights.endswith(_INDEX):
        for shard in shard_names(paths[-1]):
            _download(repo, _under(home, shard), commit)
    return Fetched(paths[-1].parent, Reference(repo, commit, reference.file))


@cache
def _listing(repo: str, revision: str | None) -> tuple[str, Mapping[str, int | None]]:
    """The commit that a revision stands for, and the sizes of its files."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    return info.sha or "", {file.rfilename: file.size for file in info.siblings or ()}


def _download(repo: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repo, file, revision=revision))


def _cached(reference: Reference) -> Fetched | None:
    """What the cache holds of it, if it is complete."""
    snapshot = _snapshot(reference)
    if snapshot is None:
        return None
    path = snapshot / (reference.file or "")
    try:
        weights = path if reference.names_file else find_weights(path)
        shards = shard_names(weights) if weights.name.endswith(_INDEX) else ()
    except (CheckpointError, UsageError):
        return None
    needed: Sequence[Path] = [weights, *(weights.parent / shard for shard in shards)]
    if not all(file.is_file() for file in needed):
        return None
    return Fetched(path, Reference(reference.repo, snapshot.name, reference.file))


def _snapshot(reference: Reference) -> Path | None:
    """The folder of a revision in the cache, by the layout that huggingface_hub documents."""
    home, revision = _repository(reference.repo), reference.revision or _BRANCH
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (home / "refs" / revision).read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return None
    folder = home / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and folder.is_dir() else None


def _repository(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _home(reference: Reference) -> str:
    """The folder in the repository that the weights are in; nothing for its root."""
    file = reference.file or ""
    return file.rpartition("/")[0] if reference.names_file else file


def _under(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _children(names: Mapping[str, object], folder: str) -> list[str]:
    """What lies in a folder itself, sorted."""
    start = _under(folder, "")
    return sorted(n[len(start) :] for n in names if n.startswith(start) and "/" not in n[len(start) :])
