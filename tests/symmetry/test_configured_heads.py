"""Numbers of heads that configurations tell, and that nothing else shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.symmetry.configured_heads import check_asked_heads, check_same_heads
from deepalign_cli.symmetry.resolve import check_same_layout, resolve_spec, turning_spec


def folder(place: Path, **config: object) -> Checkpoint:
    place.mkdir()
    save_file({"w": torch.ones(8, 8)}, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps(config))
    return open_checkpoint(place)


@pytest.mark.parametrize(
    ("told", "other", "named"),
    [
        ({"num_attention_heads": 4}, {"num_attention_heads": 8}, "num_attention_heads is 4 .* but 8"),
        ({"n_head": 4, "n_layer": 2}, {"n_head": 2, "n_layer": 2}, "n_head is 4 .* but 2"),
        (
            {"text_config": {"num_key_value_heads": 2}}, {"text_config": {"num_key_value_heads": 1}},
            r"text_config\.num_key_value_heads is 2 .* but 1",
        ),
    ],
)  # fmt: skip
def test_other_heads_are_refused(
    tmp_path: Path, told: dict[str, object], other: dict[str, object], named: str
) -> None:
    a, b, c = (folder(tmp_path / name, **config) for name, config in (("a", told), ("b", other), ("c", told)))
    with pytest.raises(MismatchError, match=named):
        check_same_heads(a, b)
    with pytest.raises(MismatchError, match=named):
        check_same_layout(a, b)
    check_same_layout(a, c)


@pytest.mark.parametrize("other", [{}, {"num_attention_heads": None}, {"n_head": 8}])
def test_what_one_does_not_tell_is_no_contradiction(tmp_path: Path, other: dict[str, object]) -> None:
    check_same_heads(folder(tmp_path / "a", num_attention_heads=4), folder(tmp_path / "b", **other))


def test_the_number_that_is_asked_for_must_be_the_configured_one(tmp_path: Path) -> None:
    told, untold = folder(tmp_path / "a", n_head=4), folder(tmp_path / "b", n_embd=8)
    for heads in (None, 4):
        check_asked_heads(told, heads)
    check_asked_heads(untold, 3)
    for resolved in (
        lambda: resolve_spec(told, heads=3),
        lambda: turning_spec(told, heads=3),
        lambda: check_asked_heads(told, 3),
    ):
        with pytest.raises(UsageError, match=r"--heads 3, but n_head is 4 in the config\.json of .*a'"):
            resolved()
