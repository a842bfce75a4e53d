from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import MismatchError
from deepalign_cli.vocabulary.token_axes import row_counts, token_axes
from tests.vocabulary.language_models import saved


def written(folder: Path, config: dict[str, Any], **tensors: Tensor) -> Checkpoint:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name.replace("_", "."): w for name, w in tensors.items()}, folder / "model.safetensors")
    return open_checkpoint(folder)


def test_what_grows_with_the_vocabulary(tmp_path: Path) -> None:
    """There are as many positions as tokens, and as many units as tokens in a layer: these are no tokens."""
    pytest.importorskip("transformers")
    a = open_checkpoint(saved("gpt2", tmp_path / "a", 12, 0))
    assert token_axes([a, a]) == ({"transformer.wte.weight": 0}, ())
    b = open_checkpoint(saved("bert", tmp_path / "b", 16, 0))
    bert = {"bert.embeddings.word_embeddings.weight": 0, "cls.predictions.bias": 0}
    assert token_axes([b, b]) == (bert, ())
    assert row_counts([b], bert) == [16]


def test_tokens_along_another_axis(tmp_path: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.BartConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=20,
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    a = open_checkpoint(tmp_path)
    axes, _ = token_axes([a, a])
    assert axes["final_logits_bias"] == 1
    assert axes["model.shared.weight"] == 0
    assert all("position" not in name for name in axes)


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)


@pytest.mark.usefixtures("_alone")
def test_without_transformers_sizes_and_names_tell(tmp_path: Path) -> None:
    a = written(
        tmp_path / "a",
        {"vocab_size": 5},
        wte_weight=torch.ones(5, 3),
        lm_head_bias=torch.ones(5),
        x=torch.ones(3),
    )
    b = written(
        tmp_path / "b",
        {"text_config": {"vocab_size": 6}},
        wte_weight=torch.ones(6, 3),
        lm_head_bias=torch.ones(6),
        x=torch.ones(3),
    )
    axes, notes = token_axes([a, b])
    assert axes == {"wte.weight": 0, "lm.head.bias": 0}
    assert "sizes and names told" in notes[0]


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"wte_weight": torch.ones(5, 5)}, "whether the rows of 'wte.weight' are tokens"),
        ({"positions": torch.ones(5, 3)}, "whether the rows of 'positions' are tokens"),
        ({"positions": torch.ones(4, 3)}, "has a row for each token"),
    ],
)
def test_what_sizes_do_not_tell_is_refused(tensors: dict[str, Tensor], why: str, tmp_path: Path) -> None:
    a = written(tmp_path / "a", {"vocab_size": 5}, **tensors)
    with pytest.raises(MismatchError, match=why):
        token_axes([a, a])


@pytest.mark.usefixtures("_alone")
def test_a_config_that_does_not_tell(tmp_path: Path) -> None:
    a = written(tmp_path / "a", {"model_type": "x"}, wte_weight=torch.ones(5, 3))
    with pytest.raises(MismatchError, match="has no vocab_size"):
        token_axes([a, a])


def test_tensors_with_other_rows_are_refused(tmp_path: Path) -> None:
    a = written(tmp_path / "a", {}, wte_weight=torch.ones(5, 3), out=torch.ones(6))
    with pytest.raises(MismatchError, match=r"'out' has 6 rows in .*, but 'wte.weight' has 5"):
        row_counts([a], {"wte.weight": 0, "out": 0})
