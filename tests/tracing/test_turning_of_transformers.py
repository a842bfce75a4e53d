"""What turns in tiny networks of transformers, exactly, and that what was turned is read back as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import CENTRED, HALF_TURNS, NEIGHBOURS, ORTHOGONAL, ROTARY, SORTED, Kind
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.wide import Wide
from tests.symmetry.builders import seeded, shapes_of
from tests.tracing.test_turning import turned

transformers: Any = pytest.importorskip("transformers")

IDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SIZES = {
    "vocab_size": 61, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 1,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 32, "head_dim": 4,
    "tie_word_embeddings": False, **IDS,
}  # fmt: skip
GPT = {"vocab_size": 61, "n_positions": 32, "n_embd": 24, "n_layer": 1, "tie_word_embeddings": False, **IDS}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}}
NEOX = {k: v for k, v in SIZES.items() if k not in ("num_key_value_heads", "head_dim")} | {"hidden_size": 48}
GROUPED = {"qk": ROTARY, "vo": ORTHOGONAL, "queries": SORTED}

# The class, its settings, and what turns: by the last words of groups' names.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Kind]]] = {
    "gains of one and more": ("Gemma", SIZES, {**GROUPED, "stream": ORTHOGONAL}),
    "norms behind branches": ("Gemma2", SIZES, GROUPED),
    "tied": ("Gemma", {**SIZES, "tie_word_embeddings": True}, GROUPED),
    "normed queries": ("Qwen3", SIZES, {**GROUPED, "qk": HALF_TURNS, "stream": ORTHOGONAL}),
    "normed over all heads": ("Olmo2", SIZES, {**GROUPED, "qk": HALF_TURNS}),
    "fused by head": ("GPTNeoX", {**NEOX, **ROPE}, {"qk": ROTARY, "vo": ORTHOGONAL, "stream": CENTRED}),
    "partly rotary": (
        "GPTNeoX", NEOX, {"rotary": ROTARY, "qk": ORTHOGONAL, "vo": ORTHOGONAL, "stream": CENTRED}
    ),
    "neighbours": (
        "GPTJ", {**GPT, "n_head": 3, "rotary_dim": 4},
        {"rotary": NEIGHBOURS, "qk": ORTHOGONAL, "vo": ORTHOGONAL, "stream": CENTRED},
    ),
    "one head": (
        "GPT2", {**GPT, "n_head": 1}, {"c_attn": ORTHOGONAL, "c_proj": ORTHOGONAL, "stream": CENTRED}
    ),
    "one rotary head": (
        "Llama", {**SIZES, "num_attention_heads": 1, "num_key_value_heads": 1},
        {"qk": ROTARY, "o_proj": ORTHOGONAL, "stream": ORTHOGONAL},
    ),
    "keys of all heads": (
        "Qwen2", {**SIZES, "num_key_value_heads": 1}, {"qk": ROTARY, "vo": ORTHOGONAL, "stream": ORTHOGONAL}
    ),
}  # fmt: skip


class Logits(nn.Module):
    """A network of which the logits count."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(input_ids=x, use_cache=False).logits  # type: ignore[no-any-return]


def built(name: str, settings: dict[str, Any]) -> Any:
    config = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
    torch.manual_seed(0)
    model = getattr(transformers, config)(getattr(transformers, f"{name}Config")(**settings)).eval()
    with torch.no_grad():
        for w in model.parameters():
            w.add_(0.2 * torch.randn(w.shape))
    return model.double()


def read(model: Any, folder: Path) -> Any:
    """The network that a folder gives back, of which no tensor is missing or unknown."""
    model.save_pretrained(folder)
    again, told = type(model).from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
    assert not any(told[which] for which in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return again.eval()


def outputs(model: Any) -> Tensor:
    """In float64 from end to end."""
    tokens = torch.randint(3, 60, (2, 9), generator=seeded(5))
    with torch.no_grad(), Wide():
        return Logits(model)(tokens).double()  # type: ignore[no-any-return]


def last_words(spec: Spec) -> dict[str, Kind]:
    return {group.rpartition(".")[2]: kind for group, kind in spec.kinds.items()}


@pytest.mark.parametrize("case", CASES)
def test_all_that_may_turn_does_and_the_folder_computes_the_same(case: str, tmp_path: Path) -> None:
    name, settings, kinds = CASES[case]
    model = built(name, settings)
    spec, _ = turned(Logits(model), torch.randint(3, 60, (2, 7)))
    assert last_words(spec) == kinds, spec.stays
    spec = spec.renamed(lambda n: n.removeprefix("inner."))
    weights = {n: w.detach().clone() for n, w in model.state_dict().items() if w.is_floating_point()}
    symmetry, rng = Symmetry(spec, shapes_of(weights)), seeded(1)
    own = symmetry.without_gains(weights)
    gains = {n: 0.5 + torch.rand(w.shape, generator=rng).double() for n, w in own.enter.items()}
    g = Element({}, leave=gains) @ symmetry.random(rng) @ own
    before = outputs(read(model, tmp_path / "before"))
    model.load_state_dict({**model.state_dict(), **symmetry.apply(g, weights)})
    after = outputs(read(model, tmp_path / "after"))
    assert float((before - after).abs().max() / before.std()) < 1e-9
