#!/usr/bin/env bash
# tinygrad 0.14.0 with torch 2.13.0: torch_load reads other numbers than torch where a tensor is a slice of a larger one.
#
# Expected: torch_load gives what torch.load gives, or refuses, as it does for a tensor whose axes it cannot permute.
# Seen: equal where tensors are whole, transposed, or whole rows of a larger one. Of columns, as of a fused weight that was split,
# or of every second row, the right shape comes back with the numbers that lie next to each other in the larger tensor.
# Nothing is raised. torch saves such slices as views, so that state dicts of fused and of pruned layers hold them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tinygrad==0.14.0 torch==2.13.0 numpy==2.4.6
cd "$folder"
# Without a compiler: tinygrad's interpreter, and torch's older format, which needs none to be unpacked.
DEV=PYTHON "$folder/venv/bin/python" - <<'PYTHON'
import torch
from tinygrad.nn.state import torch_load

fused = torch.arange(24.0).reshape(4, 6)
STATE = {
    "whole": fused.clone(),
    "transposed": fused.clone().T,
    "rows": fused[1:3],
    "columns": fused.chunk(2, dim=1)[0],
    "every second row": fused[::2],
}
torch.save(STATE, "state.pt", _use_new_zipfile_serialization=False)
loaded = torch.load("state.pt", weights_only=True)
assert all(torch.equal(STATE[name], tensor) for name, tensor in loaded.items()), "torch reads it otherwise"
read = {name: tensor.to("PYTHON").tolist() for name, tensor in torch_load("state.pt").items()}
same = {name: read[name] == tensor.tolist() for name, tensor in loaded.items()}
print(f"torch {torch.__version__}, equal: {same}")
print(f"columns: torch {loaded['columns'].tolist()}, tinygrad {read['columns']}")
assert same["whole"] and same["transposed"] and same["rows"], "others are read wrongly now"
assert not same["columns"] and not same["every second row"], "slices are read rightly now"
assert read["columns"] == fused.flatten()[:12].reshape(4, 3).tolist(), "other numbers come back"
PYTHON
