"""Trained aligners by name, by path, or from the Hugging Face Hub. Nothing in a file is executed.

A network that comes with the package is `NAME.safetensors` in its `pretrained` folder: inside the package
where it was installed from a wheel, beside it in a checkout of the sources.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deepalign_cli.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from deepalign_cli.network.model import DeepAlign

DEFAULT_NETWORK = "universal-v1"
_SUFFIX = ".safetensors"
_PACKAGE = Path(__file__).parents[1]
_HUB = "hf://"
_REFERENCE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")
_ELSEWHERE = "download the file by other means and give its path to --network."


def resolve_network(reference: str) -> Path:
    """The file of a network: the name of one that comes with deepalign, a path, or hf://org/repo[@rev][/file].

    A name goes before a file of that name: write ./NAME for the file. What looks like a path is returned
    whether or not something is there.

    Raises:
        UsageError: no network is called that, or the Hub has none.
        CheckpointError: it could not be fetched.
    """
    if reference.startswith(_HUB):
        return _downloaded(reference)
    shipped = shipped_networks()
    if reference in shipped:
        return shipped[reference]
    path = Path(reference)
    if len(path.parts) > 1 or path.suffix == _SUFFIX or (reference and path.exists()):
        return path
    names = ", ".join(f"'{name}'" for name in shipped) or "none"
    raise UsageError(
        f"no network is called '{reference}'; these come with deepalign: {names}.",
        "give one of these, the path of a file, or hf://org/repo.",
    )


def load_pretrained(reference: str = DEFAULT_NETWORK) -> DeepAlign:
    """The network that a reference names, ready to be used.

    Raises:
        UsageError: there is none. CheckpointError: it could not be fetched, or is no aligner.
    """
    from deepalign_cli.network.saved import load_network  # with torch: names are resolved without it

    return load_network(resolve_network(reference))


def network_name(reference: str) -> str:
    """What a network is called in reports and metadata: of a path, the file's name alone."""
    if reference.startswith(_HUB) or reference in shipped_networks():
        return reference
    return Path(reference).name


def shipped_networks() -> dict[str, Path]:
    """The networks that come with this installation, by name."""
    inside, beside = _PACKAGE / "pretrained", _PACKAGE.parent / "pretrained"
    folder = inside if inside.is_dir() else beside
    return {path.stem: path for path in sorted(folder.glob(f"*{_SUFFIX}"))}


@cache  # one process uses one state of a branch that moves
def _downloaded(reference: str) -> Path:
    """The file on disk, fetched unless the Hub's cache holds it."""
    match = _REFERENCE.fullmatch(reference)
    file = (match and match["file"]) or f"{DEFAULT_NETWORK}{_SUFFIX}"
    if match is None or ".." in file.split("/"):
        raise UsageError(
            f"'{reference}' is not a reference to a file on the Hugging Face Hub.",
            "write hf://org/repo, hf://org/repo@revision or hf://org/repo/file.safetensors.",
        )
    revision = unquote(match["revision"]) if match["revision"] else None

    from huggingface_hub import errors, hf_hub_download

    try:
        with _silence():
            return Path(hf_hub_download(match["repo"], file, revision=revision))
    except errors.LocalEntryNotFoundError:
        raise CheckpointError(
            f"'{reference}' could not be fetched: the Hugging Face Hub is not to be reached, and no copy of "
            "it is kept here.",
            f"try again when it is, or {_ELSEWHERE}",
        ) from None
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
        errors.HFValidationError,
    ):
        raise UsageError(
            f"the Hugging Face Hub has no '{file}' for '{reference}', or does not show it to you.",
            "check organisation, repository, revision and file; a private one needs `hf auth login`.",
        ) from None
    except Exception as error:  # of several HTTP clients, by the version of huggingface_hub
        problem = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
        raise CheckpointError(
            f"'{reference}' could not be fetched: {problem}.", f"try again, or {_ELSEWHERE}"
        ) from None


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the Hub's bars and warnings off stderr, where they come off a terminal and beside JSON too."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger, shown = logging.getLogger("huggingface_hub"), not are_progress_bars_disabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown:
            enable_progress_bars()
