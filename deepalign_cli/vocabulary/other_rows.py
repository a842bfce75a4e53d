"""A word of warning where networks are merged row by row and the rows are of different tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.companions import companions
from deepalign_cli.checkpoint.problems import shown
from deepalign_cli.errors import DeepalignError
from deepalign_cli.vocabulary.tokenizer import FAST, VOCAB, WORDS, Tokenizer, read_tokenizer


def notes_on_tokens(networks: Sequence[Checkpoint]) -> Iterator[str]:
    """What to tell of folders whose tokenizers give a token other rows than the first one's does.

    Files that are the same to the byte are not parsed, and what cannot be read is passed over.
    """
    first, *others = networks
    for other in others:
        pair = [_file(one) for one in (first, other)]
        if None in pair or _same(pair):
            continue
        a, b = (_tokenizer(one) for one in (first, other))
        moved = [t for t, row in a.rows.items() if b.rows.get(t, row) != row] if a and b else []
        if moved:
            yield (
                f"{shown(moved[0])} has another row in {other.called} than in {first.called}, and so have "
                f"{len(moved) - 1:,} more tokens: --tokenizer A or union merges them token by token"
            )


def _file(network: Checkpoint) -> Path | None:
    """What says the rows of a folder's tokens; nothing is fetched for that."""
    if network.origin is not None or not network.path.is_dir():
        return None
    return next((p for name in (FAST, VOCAB, WORDS) if (p := network.path / name).is_file()), None)


def _same(pair: Sequence[Path | None]) -> bool:
    a, b = (path.read_bytes() if path else b"" for path in pair)
    return a == b


def _tokenizer(network: Checkpoint) -> Tokenizer | None:
    try:
        return read_tokenizer(companions(network)[0], network.path)
    except DeepalignError:
        return None
