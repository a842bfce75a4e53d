#!/usr/bin/env bash
# torch 2.13.0: weight_norm(dim=-1) has one length for the whole weight, not one for each entry of the last axis.
#
# Expected: a negative axis counts from the end, as everywhere in torch and as dim=-2 does here, so that of a linear layer with
# 3 outputs and 4 inputs dim=-1 is dim=1: 4 lengths, one a column.
# Seen: dim=1 has 4 lengths, dim=-2 has 3 as dim=0 has, and dim=-1 has a single one, which is what dim=None means. A step of
# gradients then trains another network, and the stored tensors have other shapes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


def lengths(dim: int | None) -> list[int]:
    """The shape of the lengths of a layer's weight."""
    return list(weight_norm(nn.Linear(4, 3), dim=dim).parametrizations.weight.original0.shape)


found = {dim: lengths(dim) for dim in (0, 1, -1, -2, None)}
print(f"torch {torch.__version__}: {found}")
assert found[0] == found[-2] == [3, 1] and found[1] == [1, 4], "the other axes have changed"
assert found[-1] == found[None] == [], "dim=-1 is the last axis now"
PYTHON
