"""A network whose tokens were shuffled and extended, merged with the one that it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.operations.making import deepalign
from tests.vocabulary.language_models import (
    END,
    LETTERS,
    fast_table,
    logits,
    pair,
    rows_of,
    saved,
    tensors,
    write_tokenizer,
)

pytest.importorskip("transformers")
TEXT = [3, 1, 4, 1, 5, 9, 2, 6]
CASES = [
    ("gpt2", {}),
    pytest.param("gpt2", {"tie_word_embeddings": False}, marks=pytest.mark.slow),
    pytest.param("llama", {}, marks=pytest.mark.slow),
    pytest.param("llama", {"tie_word_embeddings": True}, marks=pytest.mark.slow),
    pytest.param("bert", {}, marks=pytest.mark.slow),
]


def merged(home: Path, *options: object) -> Any:
    return deepalign("merge", home / "a", home / "b", "-m", "weights", *options, "--json")


@pytest.mark.parametrize(("kind", "changes"), CASES)
def test_the_same_function_on_shared_tokens(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    a, b = pair(kind, tmp_path, **changes)
    before = logits(a, TEXT)
    done = merged(tmp_path, "--tokenizer", "A", "-o", f"{tmp_path / 'first'}/")
    assert done.code == 0, done.err
    assert done.json["vocabulary"] == {"rows": 21, "shared": 21, "new": 0}
    assert torch.allclose(logits(tmp_path / "first", TEXT), before, rtol=0, atol=1e-12)

    done = merged(tmp_path, "--tokenizer", "union", "-o", f"{tmp_path / 'union'}/")
    assert done.code == 0, done.err
    assert done.json["vocabulary"] == {"rows": 23, "shared": 21, "new": 2}
    assert done.json["basis"] == "traced and checked"
    after = logits(tmp_path / "union", TEXT)
    assert after.shape[1] == 23
    assert torch.allclose(after[:, :21], before, rtol=0, atol=1e-12)
    rows, own = rows_of(tmp_path / "union"), rows_of(b)
    assert [rows[token] for token in (*LETTERS, END)] == list(range(21))
    assert {rows["x"], rows["y"]} == {21, 22}
    text = ["x", "a", "y", "b", END]  # B's tokens, in the rows of each
    theirs = logits(b, [own[token] for token in text])[:, [own[token] for token in text]]
    ours = logits(tmp_path / "union", [rows[token] for token in text])[:, [rows[token] for token in text]]
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    assert json.loads((tmp_path / "union" / "config.json").read_text())["vocab_size"] == 23


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rotations", "deepalign", "none"])
def test_all_the_way_to_b_is_b_on_its_tokens(method: str, tmp_path: Path) -> None:
    """By methods that turn heads and streams, too; the networks have nothing in common but the tokens."""
    _, b = pair("llama", tmp_path)
    saved("llama", tmp_path / "a", 24, 7)  # in the place of what b was made of, with 3 rows of padding
    write_tokenizer(tmp_path / "a", fast_table(LETTERS))
    done = deepalign(
        "merge", tmp_path / "a", b, "-m", method, "--alpha", "1", "--tokenizer", "union", "--json",
        "-o", f"{tmp_path / 'o'}/",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows, own = rows_of(tmp_path / "o"), rows_of(b)
    there, here = ([table[token] for token in (*LETTERS[:8], "x", END)] for table in (own, rows))
    assert torch.allclose(
        logits(tmp_path / "o", here)[:, here], logits(b, there)[:, there], rtol=0, atol=1e-9
    )
    assert tensors(tmp_path / "o")["lm_head.weight"].shape[0] == 24
