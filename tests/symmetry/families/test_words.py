from __future__ import annotations

import pytest

from deepalign_cli.symmetry.families.words import is_embedding, is_last, ordinal, stands_beside, words_before


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("input", "hidden", True),
        ("encoder.2", "decoder.0", True),
        ("hidden", "fc_out", True),
        ("out", "hidden", False),
        ("linear_in", "linear_out", True),
        ("proj", "out", None),
        ("block.up", "block.down", None),  # a U-Net goes down first, a feed-forward block up
        ("fc1", "fc2", None),  # numbers are for others to compare
    ],
)
def test_words_put_layers_in_an_order(first: str, second: str, told: bool | None) -> None:
    assert words_before(first, second) is told


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("net.gate", "gate"), ("i2h", "i2h"), ("se1", "se"), ("block.shortcut", "shortcut"),
        ("res1.0", "res"), ("fc1", None), ("base.0", None), ("reset_net.0", None),
    ],
)  # fmt: skip
def test_words_that_say_that_a_layer_stands_beside_the_others(path: str, word: str | None) -> None:
    assert stands_beside(path) == word


def test_embeddings_heads_and_ordinals() -> None:
    assert [is_embedding(p) for p in ("emb", "user_embedding", "net.embed_tokens", "wte", "embed.fc")] == [
        True, True, True, True, False,
    ]  # fmt: skip
    assert [is_last(p) for p in ("head", "classifier.3", "fc")] == [True, True, False]
    assert [ordinal(p) for p in ("layer_two", "fc_three", "fc")] == [2, 3, None]
