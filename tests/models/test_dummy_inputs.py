"""Example inputs of networks of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.models.dummy_inputs import dummy_inputs

transformers = pytest.importorskip("transformers")

_TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 1, "num_attention_heads": 4,
    "max_position_embeddings": 64, "vocab_size": 99,
}  # fmt: skip
_IMAGE: dict[str, Any] = {
    k: v for k, v in _TEXT.items() if k not in ("vocab_size", "max_position_embeddings")
}
_IMAGE |= {"image_size": 32, "patch_size": 8}


def _bert() -> Any:
    return transformers.BertForMaskedLM(transformers.BertConfig(**_TEXT))


def _vit() -> Any:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**_IMAGE))


def _t5() -> Any:
    config = transformers.T5Config(
        vocab_size=99, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def _clip() -> Any:
    config = transformers.CLIPConfig(text_config=_TEXT, vision_config=_IMAGE, projection_dim=16)
    return transformers.CLIPModel(config)


def _mixtral() -> Any:
    config = transformers.MixtralConfig(**_TEXT, num_key_value_heads=2, num_local_experts=4)
    return transformers.MixtralForCausalLM(config)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (_bert, {"input_ids"}),
        (_vit, {"pixel_values"}),
        (_t5, {"input_ids", "decoder_input_ids"}),
        (_clip, {"input_ids", "pixel_values"}),
        (_mixtral, {"input_ids"}),
    ],
)
def test_the_network_runs_on_its_example(make: Any, names: set[str]) -> None:
    model = make().eval()
    example = dummy_inputs(model)
    assert {k for k, v in example.kwargs.items() if isinstance(v, torch.Tensor)} == names
    assert all(1 not in t.shape for t in example.tensors())
    with torch.no_grad():
        model(**example.kwargs)


def test_tokens_are_none_that_mean_something() -> None:
    model = _bert()
    model.config.pad_token_id = 7
    assert 7 not in dummy_inputs(model).kwargs["input_ids"]


def test_tracing_wants_no_caches_and_no_loop_over_experts() -> None:
    model = _mixtral()
    dummy_inputs(model)
    assert model.config.use_cache is False
    assert model.config._experts_implementation == "batched_mm"


def test_what_cannot_be_made_up_is_named() -> None:
    model = _bert()
    model.forward = lambda inference_session: inference_session
    with pytest.raises(UsageError, match="wants 'inference_session'"):
        dummy_inputs(model)
