"""Trained aligners by name, by path, or from the Hugging Face Hub. Nothing in a file is executed.

A network that comes with the package is `NAME.safetensors` in its `pretrained` folder: inside the package
where it was installed from a wheel, beside it in a checkout of the sources.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.hub import fetch, is_reference, parse_reference
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.network.model import DeepAlign

DEFAULT_NETWORK = "universal-v1"
_SUFFIX = ".safetensors"
_PACKAGE = Path(__file__).parents[1]


def resolve_network(reference: str) -> Path:
    """The file of a network: the name of one that comes with deepalign, a path, or hf://org/repo[@rev][/file].

    A name goes before a file of that name: write ./NAME for the file. What looks like a path is returned
    whether or not something is there.

    Raises:
        UsageError: no network is called that, or the Hub has none.
        CheckpointError: it could not be fetched.
    """
    if is_reference(reference):
        asked = parse_reference(reference)
        return fetch(replace(asked, file=asked.file or f"{DEFAULT_NETWORK}{_SUFFIX}")).path
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
    if is_reference(reference) or reference in shipped_networks():
        return reference
    return Path(reference).name


def shipped_networks() -> dict[str, Path]:
    """The networks that come with this installation, by name."""
    inside, beside = _PACKAGE / "pretrained", _PACKAGE.parent / "pretrained"
    folder = inside if inside.is_dir() else beside
    return {path.stem: path for path in sorted(folder.glob(f"*{_SUFFIX}"))}
