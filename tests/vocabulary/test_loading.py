"""Unions as transformers loads them, through the classes that build tokenizers anew from a file's parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deepalign_cli.vocabulary.joined import joined
from deepalign_cli.vocabulary.row_places import row_places
from deepalign_cli.vocabulary.tokenizer import read_tokenizer

transformers: Any = pytest.importorskip("transformers")


def bpe(name: str, letters: Sequence[str], merges: Sequence[tuple[str, str]], added: Sequence[str]) -> Any:
    words = [*letters, *(a + b for a, b in merges)]
    made = getattr(transformers, name)(vocab={word: row for row, word in enumerate(words)}, merges=[*merges])
    made.add_tokens([*added])
    return made


def words(pieces: Sequence[str], added: Sequence[str]) -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = transformers.BertTokenizer(vocab={word: row for row, word in enumerate([*special, *pieces])})
    made.add_tokens([*added])
    return made


GPT = ["a", "b", "c", "d", "Ġ", "<|endoftext|>"]
LLAMA = ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", "d"]
CASES = {
    "GPT2Tokenizer": (
        bpe("GPT2Tokenizer", GPT, [("a", "b")], ["<x>"]),
        bpe("GPT2Tokenizer", GPT[::-1], [("a", "b"), ("ab", "c"), ("Ġ", "d")], ["<y>", "<x>"]),
        "abc d<y>ab<x>",
    ),
    "LlamaTokenizer": (
        bpe("LlamaTokenizer", LLAMA, [("a", "b")], ["<x>"]),
        bpe("LlamaTokenizer", [*LLAMA[:3], *LLAMA[:2:-1]], [("a", "b"), ("▁", "d")], ["<y>"]), "ab d<y>c",
    ),
    "BertTokenizer": (words(["ab", "##c"], ["<x>"]), words(["##d", "ab", "##c", "e"], ["<y>"]), "abcd e <y>"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_union_that_transformers_loads(name: str, tmp_path: Path) -> None:
    *pair, text = CASES[name]
    opened = []
    for one, home in zip(pair, ("a", "b"), strict=True):
        one.save_pretrained(tmp_path / home)
        opened.append(read_tokenizer({p.name: p for p in (tmp_path / home).iterdir()}, tmp_path / home))
        assert opened[-1].rows == one.get_vocab()
    sizes = [len(one.rows) for one in opened]
    placed = row_places([one.rows for one in opened], sizes, union=True, order=[one.order for one in opened])
    for file, data in joined(opened, ["a", "b"], placed.new).files.items():
        (tmp_path / "a" / file).write_bytes(data)
    union = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    assert type(union).__name__ == name
    assert union.get_vocab() == {**opened[0].rows, **placed.new}
    assert union.tokenize(text) == pair[1].tokenize(text)
    assert union.tokenize("ab<x>") == pair[0].tokenize("ab<x>")
    ids = union(text).input_ids
    assert union.convert_ids_to_tokens(ids) == pair[1].convert_ids_to_tokens(pair[1](text).input_ids)
