"""Open the checkpoint of a network, and refuse the other files that deepalign writes; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.checkpoint.hub import shown_source
from deepalign_cli.errors import CheckpointError

# The key in the metadata of each other kind of file that deepalign writes: what it is, and what it is for.
OTHER_KINDS: Mapping[str, tuple[str, str]] = {
    "deepalign.alignment": (
        "is a saved alignment, not a network",
        "give it to --alignment, after the two networks.",
    ),
    "deepalign.network": (
        "is an aligner network, not one to be aligned",
        "give it to --network, after the two networks.",
    ),
}


def open_network(path: Path, key: str | None = None) -> Checkpoint:
    """Open a checkpoint of a network; a reference to the Hugging Face Hub is fetched.

    `key` says which state dict to take of a file that holds several.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is broken, could not be fetched, or is a saved alignment or an aligner.
    """
    checkpoint = open_checkpoint(path, key)
    for key, (what, hint) in OTHER_KINDS.items():
        if key in checkpoint.metadata:
            raise CheckpointError(f"'{shown_source(path)}' {what}.", hint)
    return checkpoint
