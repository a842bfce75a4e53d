#!/usr/bin/env bash
# mergekit 0.1.5 with torch 2.13.0 and transformers 5.24.0: `sce` weighs networks alike that have hardly left the base.
#
# Expected: its guide says that the weights of the networks are proportional to the mean squares of their task vectors, as
# in the paper (SCE), so that only the vectors' ratio counts: of two that are as 1 to 3, the second weighs .9.
# Seen: .9 for steps of .01 and .03, or .001 and .003, an entry; .5 for steps of .0002 and .0006. Where the mean squares
# sum to less than 1e-6 all networks weigh the same, which gentle fine-tuning reaches. The result is another network,
# and nothing says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mergekit==0.1.5 torch==2.13.0 transformers==5.24.0 safetensors==0.8.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import copy
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

CONFIG = transformers.LlamaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False,
)
HERE = Path.cwd()
torch.manual_seed(0)
BASE = transformers.LlamaForCausalLM(CONFIG)
BASE.save_pretrained("base")
STEP = [torch.randn(w.shape) for w in BASE.parameters()]


def tuned(name: str, size: float) -> str:
    """A network that went so far from the base, always in one direction."""
    network = copy.deepcopy(BASE)
    with torch.no_grad():
        for w, step in zip(network.parameters(), STEP, strict=True):
            w.add_(size * step)
    network.save_pretrained(name)
    return f"  - model: {HERE / name}\n"


def weight_of_the_second(size: float) -> float:
    """Networks that went `size` and 3 `size` far: their mean squares are as 1 to 9."""
    models = tuned("one", size) + tuned("two", 3 * size)
    recipe = f"merge_method: sce\nbase_model: {HERE / 'base'}\nmodels:\n{models}dtype: float32\n"
    Path("sce.yaml").write_text(recipe)
    command = [str(Path(sys.executable).with_name("mergekit-yaml")), "sce.yaml", "out"]
    subprocess.run(command, check=True, capture_output=True)
    start, new, two = (load_file(HERE / f / "model.safetensors") for f in ("base", "out", "two"))
    name = "model.layers.0.mlp.up_proj.weight"
    far = float((new[name] - start[name]).norm() / (two[name] - start[name]).norm())
    return (3 * far - 1) / 2  # far = ((1 - w) + 3 w) / 3


weights = {size: round(weight_of_the_second(size), 3) for size in (1e-2, 1e-3, 2e-4)}
print(weights)
assert abs(weights[1e-2] - 0.9) < 0.01 and abs(weights[1e-3] - 0.9) < 0.01, "mean squares no longer decide"
assert abs(weights[2e-4] - 0.5) < 0.01, "small steps are now weighed as large ones are"
PYTHON
