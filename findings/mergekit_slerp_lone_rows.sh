#!/usr/bin/env bash
# mergekit 0.1.5 with torch 2.13.0 and transformers 5.24.0: `slerp` lengthens the embeddings of tokens that one network alone has.
#
# Expected: with `tokenizer_source: union` a token that one network alone has keeps the embedding that it has there, as under
# `linear` and as its guide says: the other network has nothing to mix in.
# Seen: under `linear` equal to 1e-6. Under `slerp` at t = .5, with networks trained apart, these rows are 1.2 to 1.5 times as
# long: the missing row is filled with the other network's, and the arc between whole tensors makes two equal rows longer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mergekit==0.1.5 torch==2.13.0 transformers==5.24.0 safetensors==0.8.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

HERE, EMBEDDING = Path.cwd(), "model.embed_tokens.weight"


def network(name: str, words: list[str], seed: int) -> dict[str, int]:
    """A random Llama with a token a word."""
    torch.manual_seed(seed)
    rows = {word: row for row, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(rows, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=words[0]).save_pretrained(name)
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(name)
    return rows


def ratios(method: str, extra: str) -> torch.Tensor:
    """How long the rows of the second network's own tokens are in the merge, over their length before."""
    models_of = "".join(f"  - model: {HERE / name}\n    parameters: {{weight: 0.5}}\n" for name in "ab")
    recipe = f"merge_method: {method}\nmodels:\n{models_of}{extra}dtype: float32\ntokenizer_source: union\n"
    Path("recipe.yaml").write_text(recipe)
    command = [str(Path(sys.executable).with_name("mergekit-yaml")), "recipe.yaml", method]
    subprocess.run(command, check=True, capture_output=True)
    new = load_file(HERE / method / "model.safetensors")[EMBEDDING]
    known = transformers.AutoTokenizer.from_pretrained(str(HERE / method)).get_vocab()
    old = load_file(HERE / "b" / "model.safetensors")[EMBEDDING]
    return torch.stack([new[known[word]].norm() / old[rows[word]].norm() for word in OWN])


SHARED, OWN = [f"s{i}" for i in range(24)], [f"b{i}" for i in range(6)]
network("a", SHARED, 0)
rows = network("b", SHARED + OWN, 1)
linear = ratios("linear", "")
slerp = ratios("slerp", f"base_model: {HERE / 'a'}\nparameters: {{t: 0.5}}\n")
print(f"linear {linear.tolist()}, slerp {slerp.tolist()}")
assert (linear - 1).abs().max() < 1e-5, "linear has changed"
assert slerp.min() > 1.1 and slerp.max() < 1.5, "slerp has changed"
PYTHON
