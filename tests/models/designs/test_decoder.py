from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.designs.builders import LLAMA, inputs_of, weights_of


@pytest.mark.slow
def test_a_modern_one_is_a_llama() -> None:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=LLAMA.tokens, hidden_size=LLAMA.width, intermediate_size=LLAMA.hidden,
        num_hidden_layers=LLAMA.layers, num_attention_heads=LLAMA.heads,
        num_key_value_heads=LLAMA.heads // LLAMA.queries, rms_norm_eps=1e-6, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).double().eval()
    weights, state = weights_of(LLAMA), {}
    for name, w in weights.items():
        if name.endswith("in_proj_weight"):
            before = name.removesuffix("in_proj_weight")
            shared = LLAMA.width // LLAMA.queries
            for letter, part in zip("qkv", w.split((LLAMA.width, shared, shared)), strict=True):
                state[_theirs(f"{before}{letter}_proj.weight")] = part
        else:
            state[_theirs(name)] = w
    model.load_state_dict(state)
    x = inputs_of(LLAMA)
    with torch.no_grad():
        assert torch.allclose(model(x).logits, LLAMA(weights, x), rtol=0, atol=2e-5)  # norms in float32


_NAMES = {
    "embed.": "model.embed_tokens.", "encoder.": "model.", "head.": "lm_head.", "out_proj": "o_proj",
    "linear1": "mlp.gate_proj", "linear2": "mlp.down_proj", "linear3": "mlp.up_proj",
    "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
}  # fmt: skip


def _theirs(name: str) -> str:
    """What transformers call a tensor."""
    if name == "norm.weight":
        return "model.norm.weight"
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    return name
