"""Unions of tokenizers: what the library `tokenizers` makes of the files, and what has no sound union."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from deepalign_cli.errors import MismatchError
from deepalign_cli.vocabulary.joined import JoinedTokenizer, joined
from deepalign_cli.vocabulary.row_places import row_places
from deepalign_cli.vocabulary.tokenizer import Tokenizer, read_tokenizer
from tests.vocabulary.language_models import fast_table

LETTERS = list("abcdefgh")
PIECES = [("a", -1.0), ("b", -2.0)]
Table = dict[str, Any]


def table(kind: str, words: Sequence[str], added: Sequence[str] = ("<end>",), **model: Any) -> Table:
    whole = fast_table([*words], added, kind)
    whole["model"] |= model
    return whole


def bpe(merges: Sequence[str], added: Sequence[str] = ("<end>",), *, backwards: bool = False) -> Table:
    words = [*LETTERS, *(merge.replace(" ", "") for merge in merges)]
    return table("BPE", words[::-1] if backwards else words, added, merges=[*merges])


def word_pieces(words: Sequence[str], added: Sequence[str] = ("<end>",)) -> Table:
    how = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "unk_token": "[UNK]"}
    return table("WordPiece", ["[UNK]", *words], added, **how)


def unigram(pieces: Sequence[tuple[str, float]], added: Sequence[str] = ()) -> Table:
    whole = fast_table([""] * (len(pieces) + 1), added)
    whole["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], *map(list, pieces)]}
    return whole


def tokenizers_of(home: Path, *tables: Table) -> list[Tokenizer]:
    opened = []
    for place, one in enumerate(tables):
        folder = home / str(place)
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text(json.dumps(one))
        (folder / "tokenizer_config.json").write_text('{"model_max_length": 9}')
        opened.append(read_tokenizer({path.name: path for path in folder.iterdir()}, folder))
    return opened


def union(home: Path, *tables: Table) -> tuple[JoinedTokenizer, dict[str, int]]:
    """The files, and the rows that all tokens must have."""
    opened = tokenizers_of(home, *tables)
    sizes = [max(one.rows.values()) + 1 for one in opened]
    placed = row_places([one.rows for one in opened], sizes, union=True, order=[one.order for one in opened])
    result = joined(opened, ["A", "B", "C"][: len(opened)], placed.new)
    return result, {**opened[0].rows, **placed.new}


def words_of(text: str, content: str | bytes) -> list[str]:
    """How a tokenizer.json cuts a text."""
    tokenizers: Any = pytest.importorskip("tokenizers")
    return list(
        tokenizers.Tokenizer.from_str(content if isinstance(content, str) else content.decode())
        .encode(text)
        .tokens
    )


def rows_in(content: bytes) -> dict[str, int]:
    tokenizers: Any = pytest.importorskip("tokenizers")
    return dict(tokenizers.Tokenizer.from_str(content.decode()).get_vocab())


PAIRS: dict[str, tuple[Table, Table, list[str]]] = {
    "BPE, more merges": (
        bpe(["a b"]), bpe(["a b", "ab c", "d e"], ("<end>", "<x>"), backwards=True), ["abcde<x>", "ab<end>"],
    ),
    "BPE, fewer merges": (bpe(["a b", "ab c"]), bpe(["a b"], ("<x>", "<end>")), ["ab<x>"]),
    "BPE, added tokens only": (bpe(["a b"]), bpe(["a b"], ("<end>", "<x>", "<y>")), ["ab<y><x>a<end>"]),
    "whole words": (
        table("WordLevel", ["a", "b"]), table("WordLevel", ["b", "c", "a"], ("<y>",)), ["c b a<y>"],
    ),
    "pieces of words, one more": (
        word_pieces(["ab", "##c"]), word_pieces(["##c", "ab", "abc", "x"]), ["abc x ab"],
    ),
    "Unigram, added tokens only": (
        unigram(PIECES, ["<end>"]), unigram(PIECES, ["<y>", "<end>"]), ["ab<y>"],
    ),
    "Unigram, more pieces": (unigram(PIECES), unigram([("ab", -1.5), *PIECES], ["<y>"]), ["ab<y>a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_union_cuts_what_the_larger_one_cuts_in_the_same_way(name: str, tmp_path: Path) -> None:
    a, b, texts = PAIRS[name]
    result, rows = union(tmp_path, a, b)
    made = result.files["tokenizer.json"]
    assert {token: row for token, row in rows_in(made).items() if token} == rows
    for text in texts:
        assert words_of(text, made) == words_of(text, json.dumps(b))
    assert words_of("ab<end>", made) == words_of("ab<end>", json.dumps(a)) or "Unigram" in name
    named = json.loads(result.files["tokenizer_config.json"])["added_tokens_decoder"]
    added = {entry["content"] for one in (a, b) for entry in one["added_tokens"]}
    assert {entry["content"]: int(row) for row, entry in named.items()} == {t: rows[t] for t in added}
    assert all(result.replaces(one) for one in ("vocab.json", "merges.txt", "spiece.model", "tokenizer.json"))
    assert not result.replaces("generation_config.json")


def test_three_tokenizers(tmp_path: Path) -> None:
    result, rows = union(tmp_path, bpe(["a b"]), bpe([], ("<x>",)), bpe(["a b", "c d"], ("<y>", "<x>")))
    assert rows_in(result.files["tokenizer.json"]) == rows
    assert words_of("abcd<y><x><end>", result.files["tokenizer.json"]) == ["ab", "cd", "<y>", "<x>", "<end>"]


def test_without_new_tokens_the_files_stay(tmp_path: Path) -> None:
    result, _ = union(tmp_path, bpe(["a b", "c d"]), bpe(["a b"]))
    assert not result.files
    assert not result.replaces("tokenizer.json")
    assert not result.replaces("vocab.json")


def test_a_token_that_only_the_other_searches_for_is_searched_for(tmp_path: Path) -> None:
    a = bpe(["a b"], ())
    b = copy.deepcopy(a)
    b["added_tokens"] = fast_table([""] * 8, ["ab"])["added_tokens"]
    b["added_tokens"][0]["id"] = 8
    result, rows = union(tmp_path, a, b)
    assert json.loads(result.files["tokenizer.json"])["added_tokens"][0] == b["added_tokens"][0]
    assert rows["ab"] == 8


def test_what_the_user_is_told(tmp_path: Path) -> None:
    a, b = word_pieces(["ab", "c"]), word_pieces(["ab", "d"])
    b["added_tokens"][0]["lstrip"] = True
    b["post_processor"] = {
        "type": "TemplateProcessing",
        "single": ["x"],
        "special_tokens": {"x": {"ids": [1]}},
    }
    result, _ = union(tmp_path, a, b)
    assert [note.partition(" ")[0] for note in result.notes] == ["'<end>'", "a", "special"]
    a["post_processor"] = copy.deepcopy(b["post_processor"])
    a["post_processor"]["special_tokens"]["x"]["ids"] = [7]  # another row of the same token
    assert len(union(tmp_path / "again", a, b)[0].notes) == 2


def changed(one: Table, change: Callable[[Table], object]) -> Table:
    other = copy.deepcopy(one)
    change(other)
    return other


UNSOUND: dict[str, tuple[Table, Table, str]] = {
    "other kinds": (bpe(["a b"]), word_pieces(["a"]), "one is BPE (tokenizer.json), the other WordPiece"),
    "other merges": (bpe(["a b"]), bpe(["b c"]), "their BPE merges differ"),
    "merges in another order": (bpe(["a b", "c d"]), bpe(["c d", "a b", "e f"]), "their BPE merges differ"),
    "other cuts before": (
        bpe(["a b"]), changed(bpe(["a b"]), lambda t: t.update(pre_tokenizer=None)), "'pre_tokenizer'",
    ),
    "another normaliser": (
        bpe(["a b"]), changed(bpe(["a b"]), lambda t: t.update(normalizer={"type": "NFC"})), "'normalizer'",
    ),
    "another unknown token": (
        bpe(["a b"]), changed(bpe(["a b"]), lambda t: t["model"].update(unk_token="b")), "'unk_token'",
    ),
    "bytes": (
        bpe([]), changed(bpe([]), lambda t: t["model"].update(byte_fallback=True)), "'byte_fallback'",
    ),
    "other scores": (unigram([("a", -1.0)]), unigram([("a", -1.1)]), "the piece 'a' has other scores"),
    "pieces behind added tokens": (
        unigram([("a", -1.0)], ["<end>"]), unigram([("a", -1.0), ("b", -1.0)]), "takes no more pieces",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSOUND)
def test_what_has_no_sound_union_is_a_sentence(name: str, tmp_path: Path) -> None:
    a, b, why = UNSOUND[name]
    with pytest.raises(MismatchError) as caught:
        union(tmp_path, a, b)
    assert why in caught.value.message
    assert "--tokenizer A" in caught.value.hint


def test_of_three_each_pair_must_be_sound(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="of A and C have no sound union"):
        union(tmp_path, bpe(["a b"]), bpe(["a b"]), word_pieces(["a"]))
    with pytest.raises(MismatchError, match="merges differ"):
        union(tmp_path / "again", bpe([]), bpe(["a b"]), bpe(["b c"]))


def slow(home: Path, **files: str) -> Tokenizer:
    home.mkdir()
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        (home / f"{stem}.{suffix}").write_text(text)
    return read_tokenizer({path.name: path for path in home.iterdir()}, home)


def test_vocab_json_and_merges_txt(tmp_path: Path) -> None:
    a = slow(
        tmp_path / "a",
        vocab_json='{"a": 0, "b": 1}',
        merges_txt="#version: 0.2\n",
        added_tokens_json='{"<x>": 2}',
    )
    b = slow(tmp_path / "b", vocab_json='{"b": 0, "a": 1, "ab": 2}', merges_txt="a b\n")
    files = joined([a, b], ["A", "B"], {"ab": 3}).files
    assert json.loads(files["vocab.json"]) == {"a": 0, "b": 1, "<x>": 2, "ab": 3}
    assert files["merges.txt"] == b"#version: 0.2\na b\n"
    assert json.loads(files["added_tokens.json"]) == {"<x>": 2}


def test_vocab_txt(tmp_path: Path) -> None:
    a, b = slow(tmp_path / "a", vocab_txt="a\nb\n"), slow(tmp_path / "b", vocab_txt="b\nc\n")
    assert joined([a, b], ["A", "B"], {"c": 2}).files == {"vocab.txt": b"a\nb\nc\n"}
    far = slow(tmp_path / "c", vocab_txt="a\n", added_tokens_json='{"<x>": 5}')
    with pytest.raises(MismatchError, match="takes no more lines"):
        joined([far, b], ["A", "B"], {"b": 6, "c": 7})


def test_files_of_two_kinds(tmp_path: Path) -> None:
    a = slow(tmp_path / "a", vocab_json='{"a": 0}', merges_txt="")
    (b,) = tokenizers_of(tmp_path / "b", bpe([]))
    with pytest.raises(MismatchError, match=r"one is BPE \(vocab.json\), the other BPE \(tokenizer.json\)"):
        joined([a, b], ["A", "B"], {})
