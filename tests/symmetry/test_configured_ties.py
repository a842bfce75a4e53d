"""Networks of which one ties its head and one does not: the sentence says so, not which names are missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import MismatchError
from deepalign_cli.symmetry.configured_ties import check_same_ties
from deepalign_cli.symmetry.resolve import check_same_layout


def folder(place: Path, names: tuple[str, ...], **config: object) -> Checkpoint:
    place.mkdir()
    save_file({name: torch.ones(4, 3) for name in names}, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps(config))
    return open_checkpoint(place)


def test_a_tied_and_an_untied_network_are_no_pair(tmp_path: Path) -> None:
    tied = folder(tmp_path / "tied", ("model.embed", "model.w"), tie_word_embeddings=True)
    own = folder(tmp_path / "own", ("model.embed", "model.w", "lm_head"), tie_word_embeddings=False)
    for a, b in ((tied, own), (own, tied)):
        with pytest.raises(MismatchError, match=r"tied' ties its head .*own' has a head of its own"):
            check_same_layout(a, b)


@pytest.mark.parametrize("told", [{}, {"tie_word_embeddings": None}, {"tie_word_embeddings": True}])
def test_what_is_not_told_or_is_alike_is_no_contradiction(tmp_path: Path, told: dict[str, object]) -> None:
    a = folder(tmp_path / "a", ("w",), tie_word_embeddings=True)
    b = folder(tmp_path / "b", ("w", "x"), **told)
    check_same_ties(a, b)
    with pytest.raises(MismatchError, match="lacks 'x'"):
        check_same_layout(a, b)
