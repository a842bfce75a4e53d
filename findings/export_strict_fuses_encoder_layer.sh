#!/usr/bin/env bash
# torch 2.13.0: torch.export with strict=True turns a frozen nn.TransformerEncoderLayer into one fused node.
#
# Expected: strict and non-strict export give the same operations for one module, or at least operations in which
# each weight is seen where it is used.
# Seen: with strict=True and parameters that need no gradient there is a single aten._transformer_encoder_layer_fwd,
# which takes all twelve parameters; with strict=False, or with gradients on, linear layers and norms are apart.
# Tools that read a program's operations to see what each weight does learn nothing from the fused node.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn

FUSED = "aten._transformer_encoder_layer_fwd.default"


def operations(frozen: bool, strict: bool) -> list[str]:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval().requires_grad_(not frozen)
    program = torch.export.export(layer, (torch.randn(2, 5, 16),), strict=strict)
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


found = {(f, s): operations(f, s) for f in (True, False) for s in (True, False)}
for (frozen, strict), names in found.items():
    print(f"torch {torch.__version__}: frozen={frozen} strict={strict}: {len(names)} operations, fused: {FUSED in names}")
assert FUSED in found[True, True], "strict export of a frozen layer is no longer fused"
assert all(FUSED not in names for key, names in found.items() if key != (True, True)), "others are fused now"
PYTHON
