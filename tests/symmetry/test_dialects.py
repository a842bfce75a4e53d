from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deepalign_cli.checkpoint.memory import MemoryCheckpoint
from deepalign_cli.errors import MismatchError
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.symmetry.dialects import naming_hint
from deepalign_cli.symmetry.resolve import check_same_layout


def named(*names: str) -> MemoryCheckpoint:
    return MemoryCheckpoint({name: torch.ones(2) for name in names}, "x")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_two_forms_of_weight_norm() -> None:
    older = MemoryCheckpoint(nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2))).state_dict(), "old")
    newer = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))).state_dict()
    for pair in ((older, MemoryCheckpoint(newer, "new")), (MemoryCheckpoint(newer, "new"), older)):
        with pytest.raises(MismatchError) as caught:
            check_same_layout(*pair)
        assert "weight_norm is stored in its older form" in caught.value.hint
        assert "save_original_format=False" in caught.value.hint


def test_fused_experts() -> None:
    one = named("layers.0.experts.0.up.weight", "layers.0.experts.1.up.weight")
    assert "experts" in naming_hint(one, named("layers.0.experts.gate_up_proj"))
    assert naming_hint(one, named("layers.0.mlp.weight")) == ""


def folder(path: Path, config: Mapping[str, object], name: str) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    save_file({name: torch.ones(2)}, path / "model.safetensors")
    return path


def test_folders_of_one_class(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    pair = [open_network(folder(tmp_path / n, config, f"h.{n}.weight")) for n in "ab"]
    assert "both are gpt2 of transformers" in naming_hint(*pair)
    other = open_network(folder(tmp_path / "c", {"model_type": "bert"}, "c.weight"))
    assert naming_hint(pair[0], other) == ""
