"""Whether a head is tied to its embedding, as a config.json tells: two networks must have it alike."""

from __future__ import annotations

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import MismatchError

_KEY = "tie_word_embeddings"


def check_same_ties(reference: Checkpoint, moving: Checkpoint) -> None:
    """Check that two configurations do not differ in whether heads are tied.

    Raises:
        MismatchError: they do.
    """
    told = [one.config.get(_KEY) for one in (reference, moving)]
    if {*map(type, told)} == {bool} and told[0] is not told[1]:
        tied, untied = (reference, moving) if told[0] else (moving, reference)
        raise MismatchError(
            f"'{tied.path}' ties its head to its embedding ({_KEY} in config.json), '{untied.path}' has a "
            "head of its own.",
            "their average would tear what is tied: merge two networks that are alike in this.",
        )
