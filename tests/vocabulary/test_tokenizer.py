"""Tokenizers' files read as data: which row a token has, and what is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepalign_cli.errors import CheckpointError, MismatchError
from deepalign_cli.vocabulary import tokenizer as module
from deepalign_cli.vocabulary.tokenizer import Tokenizer, read_tokenizer
from tests.vocabulary.language_models import END, fast_table

WORDS = ("<unk>", "a", "b")


def read(folder: Path, **files: object) -> Tokenizer:
    """The tokenizer of files whose names have _ for the dot; text as it is, all else as JSON."""
    for name, value in files.items():
        stem, _, suffix = name.rpartition("_")
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / f"{stem}.{suffix}").write_bytes(text.encode("utf-8", "surrogatepass"))
    return read_tokenizer({path.name: path for path in folder.iterdir()}, folder)


def bpe(**more: Any) -> dict[str, Any]:
    table = fast_table(["a", "b", "ab"], kind="BPE")
    table["model"] |= {"merges": ["a b"], **more}
    return table


def test_a_fast_tokenizer(tmp_path: Path) -> None:
    told = read(tmp_path, tokenizer_json=fast_table(WORDS), vocab_txt="other\n")
    assert told.rows == {"<unk>": 0, "a": 1, "b": 2, END: 3}
    assert told.tokens[3] == END
    assert told.kind == "WordLevel"
    assert told.order == [*WORDS, END]
    assert told.cuts == {"pre_tokenizer": {"type": "WhitespaceSplit"}, "unk_token": "a"}


@pytest.mark.parametrize("merges", [["a b"], [["a", "b"]]])
def test_merges_of_two_formats(merges: list[Any], tmp_path: Path) -> None:
    assert read(tmp_path, tokenizer_json=bpe(merges=merges)).merges == (("a", "b"),)


def test_pieces_with_scores(tmp_path: Path) -> None:
    table = fast_table([""], ())
    table["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["a", -1.5], ["b", -2]]}
    told = read(tmp_path, tokenizer_json=table)
    assert told.rows == {"<unk>": 0, "a": 1, "b": 2}
    assert told.scores == {"<unk>": 0, "a": -1.5, "b": -2}
    assert told.cuts["unk"] == "<unk>"


def test_vocab_json_with_merges_and_added_tokens(tmp_path: Path) -> None:
    told = read(
        tmp_path, vocab_json={"a": 0, "b": 1, "ab": 2}, merges_txt="#version: 0.2\na b\n",
        added_tokens_json={"<x>": 3},
        tokenizer_config_json={"added_tokens_decoder": {"4": {"content": "<y>", "special": True}}},
    )  # fmt: skip
    assert told.kind == "BPE"
    assert told.rows == {"a": 0, "b": 1, "ab": 2, "<y>": 4, "<x>": 3}
    assert told.merges == (("a", "b"),)


def test_vocab_txt_counts_lines(tmp_path: Path) -> None:
    told = read(tmp_path, vocab_txt="[PAD]\r\n[UNK]\n a\n##b\n", added_tokens_json={"<x>": 4})
    assert told.kind == "WordPiece"
    assert told.rows == {"[PAD]": 0, "[UNK]": 1, " a": 2, "##b": 3, "<x>": 4}


def test_the_config_adds_tokens_that_tokenizer_json_lacks(tmp_path: Path) -> None:
    config = {
        "added_tokens_decoder": {"4": {"content": "<y>"}, "3": {"content": END}},
        "model_max_length": 10**30,
    }
    assert read(tmp_path, tokenizer_json=fast_table(WORDS), tokenizer_config_json=config).rows["<y>"] == 4


def _changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    table = fast_table(WORDS)
    change(table)
    return table


def _unigram(vocab: object) -> dict[str, Any]:
    return _changed(lambda t: t.update(model={"type": "Unigram", "vocab": vocab}))


BROKEN = {
    "not JSON": ("{", "is not JSON"),
    "not an object": ([1], "the file is not an object"),
    "no model": ({}, "its model is not an object"),
    "an unknown model": (_changed(lambda t: t["model"].update(type="Neural")), "of the type 'Neural'"),
    "no vocabulary": (_changed(lambda t: t["model"].pop("vocab")), "its vocabulary is not an object"),
    "an empty one": (_changed(lambda t: t["model"].update(vocab={})), "its vocabulary is empty"),
    "a row below 0": (_changed(lambda t: t["model"]["vocab"].update(a=-1)), "gives 'a' the row -1"),
    "a row that is true": (_changed(lambda t: t["model"]["vocab"].update(a=True)), "gives 'a' the row True"),
    "a row without end": (_changed(lambda t: t["model"]["vocab"].update(a=2**40)), "gives 'a' the row"),
    "two tokens of one row": (_changed(lambda t: t["model"]["vocab"].update(a=2)), "'b' the same row"),
    "half a character": (_changed(lambda t: t["model"]["vocab"].update({"\ud800": 9})), "half a character"),
    "an added token without a text": (_changed(lambda t: t["added_tokens"].append({"id": 4})), "no content"),
    "an added token that is none": (_changed(lambda t: t["added_tokens"].append(7)), "is not an object"),
    "a row that the library would not give": (
        _changed(lambda t: t["added_tokens"][0].update(id=9)), "tokenizers would give it 3",
    ),
    "another row for a token of the model": (
        _changed(lambda t: t["added_tokens"][0].update(content="a")), "tokenizers would give it 1",
    ),
    "a merge of three": (bpe(merges=["a b c"]), "not two tokens"),
    "a merge of numbers": (bpe(merges=[[1, 2]]), "not two tokens"),
    "pieces without scores": (_unigram([["a"]]), "not a text and a score"),
    "pieces with scores that are true": (_unigram([["a", True]]), "not a text and a score"),
    "no pieces": (_unigram([]), "its vocabulary is empty"),
    "names twice": ('{"model": {}, "model": {}}', "names 'model' twice"),
    "numbers without end": ('{"model": %s}' % ("9" * 99), "a number of 99 digits"),
    "nesting without end": ("[" * 100_000, "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_and_hostile_files_are_a_sentence(case: str, tmp_path: Path) -> None:
    content, why = BROKEN[case]
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, tokenizer_json=content)
    assert why in caught.value.message
    assert "tokenizer.json: " in caught.value.message
    assert "\n" not in caught.value.message


def test_long_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 20)
    with pytest.raises(CheckpointError, match="longer than 20 bytes"):
        read(tmp_path, tokenizer_json=fast_table(WORDS))


def test_files_that_contradict_one_another(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'a' has the row 0, and by another file 7"):
        read(tmp_path, vocab_json={"a": 0}, added_tokens_json={"a": 7})


def test_text_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        read(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds no tokens"):
        read(tmp_path)


def test_folders_without_a_tokenizer_that_is_read(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="so that its tokens are not known"):
        read(tmp_path)
    with pytest.raises(MismatchError, match=r"in a \.model file alone"):
        read(tmp_path, tokenizer_model="sentencepiece")
