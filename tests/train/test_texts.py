from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.train import texts
from deepalign_cli.train.texts import ALPHABET, characters_of, in_rows, text_of


def test_the_docstrings_examples_hold() -> None:
    found = doctest.testmod(texts)
    assert found.attempted == 1
    assert not found.failed


def test_characters_are_numbered_as_the_alphabet_has_them() -> None:
    assert len(ALPHABET) == len(set(ALPHABET)) == 96
    assert characters_of(ALPHABET).tolist() == list(range(96))


def test_other_characters_are_left_out() -> None:
    assert characters_of("a\tä\x7f€b\r\n").tolist() == characters_of("ab\n").tolist()
    assert characters_of("ä").tolist() == characters_of("").tolist() == []


def test_every_tenth_block_is_for_testing() -> None:
    numbers = torch.arange(95_000)
    train, test = in_rows(numbers, 50)
    assert train.shape == (1800, 50)
    assert test.shape == (100, 50)
    assert test[0, 0] == 90_000  # the tenth block is cut short
    train, test = in_rows(torch.arange(210_000), 1000)
    assert test.flatten().tolist() == [*range(90_000, 100_000), *range(190_000, 200_000)]
    assert not set(train.flatten().tolist()) & set(test.flatten().tolist())
    assert train[8, -1] == 8_999


def test_what_does_not_fill_a_row_is_left_out() -> None:
    train, test = in_rows(torch.arange(25), 10)
    assert train.tolist() == [list(range(10)), list(range(10, 20))]
    assert test.shape == (0, 10)
    assert in_rows(torch.arange(3), 10)[0].shape == (0, 10)


def test_a_text_of_ones_own_comes_before_pythons(tmp_path: Path) -> None:
    assert len(text_of("python", tmp_path)) > 1_000_000
    (tmp_path / "python.txt").write_text("my own")
    assert text_of("python", tmp_path) == "my own"


def test_a_text_that_is_not_there_or_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no text '.*poems\.txt'") as caught:
        text_of("poems", tmp_path)
    assert "poems.txt" in caught.value.hint
    (tmp_path / "poems.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read as text"):
        text_of("poems", tmp_path)
