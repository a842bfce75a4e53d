# ruff: noqa: E501  (tables; tiny_configs stands beside it)
"""Tiny configurations of the classes of `transformers`: the default ones with small numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

# By pattern of a name, the first that fits: what becomes of a larger whole number.
_NUMBERS = {
    r"(num|n)_?(key_value|kv)_heads|num_query_groups|num_kv_groups|multi_query_group_num": 2,
    r"head_dim|d_kv|d_head|kv_channels|v_head_dim|head_size|attention_head_size|.*_head_dim": 8,
    r".*(num|n)_?.*heads?|.*attention_heads|.*_heads|n_?head|nhead": 4,
    r"num_feat_extract_layers": 99,
    r"(num|n)_hash_functions|num_nextn_predict_layers|num_mtp.*|.*num_pool.*": 1,
    r".*num.*experts_per_tok.*|.*top_?k|num_selected_experts|topk_group|n_group|moe_k|num_shared_experts|n_shared_experts": 2,
    r".*num.*experts?|n_routed_experts|.*num_local_experts|n_experts": 4,
    r"first_k_dense_replace|decoder_sparse_step|expert_interval|.*sparse_step": 1,
    r".*num_.*layers|n_layers?|.*_layers|num_layers|.*_depth|depth|num_blocks|.*num_hidden_blocks|num_res.*blocks": 2,
    r"vocab_size|.*vocab_size|n_token|num_embeddings": 99,
    r"codebook_size": 64,
    r".*(max|n)_.*positions?.*|n_ctx|max_seq_len.*|max_sequence_length|context_length|n_positions|max_len": 64,
    r".*intermediate_size|.*ffn_dim|d_ff|n_inner|.*ffn_hidden_size|ffn_hidden|.*dim_feedforward|.*feedforward_dim": 40,
    r".*mlp_(hidden_)?(dim|size)|inner_dim|d_inner|linear_units": 40,
    r"moe_intermediate_size|shared_.*intermediate_size": 24,
    r"type_vocab_size": 2,
    r"q_lora_rank|kv_lora_rank|.*_rank|time_step_rank": 8,
    r"state_size|.*d_state|.*ssm_state_size": 4,
    r"sliding_window|attention_window|local_attention|window_size|chunk_size|.*chunk_length": 8,
    r"image_size|img_size|input_image_size": 32,
    r"patch_size": 8,
    r"num_frames|frames_per_clip": 2,
    r"num_mel_bins|.*mel_bins|input_feat_per_channel": 16,
    r"num_queries|num_query_tokens|num_latents|num_prompts?|qformer_num.*|num_object_queries": 6,
    r"(?!.*(vocab|kernel|patch|image|chunk|window|batch|hop|type|conv_|pool)).*(hidden_size|hidden_dim|_dim|_size|d_model|_width|n_embd|^dim|^width|embedding_size|_channels)": 32,
    r"n_embd|dim|width|d_model|hidden_channels|channels|base_channels": 32,
}
_KEPT = re.compile(
    r".*(token_id|token_index|num_channels|in_channels|in_chans|audio_channels|input_channels|kernel|stride|"
    r"downsample|hop|sampling|theta|base|version|num_labels|bbox|chunk_size_feed|scale|ratio|year|spatial_merge|temporal|"
    r"pool_size|max_bounds|dilation|factor|image_grid|max_2d)"
)
_MAX_TOKENS = 99


# What the rules cannot know, by model type.
_OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "lsh_attn_chunk_length": 4, "local_attn_chunk_length": 4},
    "blt": {"encoder_hash_byte_group_vocab": 99},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "perceiver": {"num_latents": 6, "num_blocks": 1, "num_self_attends_per_block": 2},
    "time_series_transformer": {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2]},
    "informer": {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2]},
    "autoformer": {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2]},
    "univnet": {"model_hidden_channels": 8},
}  # fmt: skip
_VARIANTS: tuple[Mapping[str, Any], ...] = (
    {},
    {"num_key_value_heads": 4},
    {"mamba_n_heads": 8, "mamba_d_head": 8},
    {"num_hidden_layers": 4, "layer_types": None},
)


def tiny(cls: type) -> Any:
    """A small configuration of a class, with which it can be built. Raises what the class raises if none is."""
    default = _default(cls)
    problem: Exception | None = None
    for variant in _VARIANTS:
        try:
            config = type(default).from_dict(
                _with(shrunk(default.to_dict()), variant, _OVERRIDES.get(default.model_type, {}))
            )
            with torch.device("meta"):
                cls(config)
        except Exception as error:
            problem = problem or error
        else:
            return config
    assert problem is not None
    raise problem


def _default(cls: Any) -> Any:
    return cls.config_class()


def _with(small: dict[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """With values put in wherever the configuration or a part of it has them."""
    for change in changes:
        for name, value in change.items():
            if name in small:
                small[name] = value
        for part in small.values():
            if isinstance(part, dict) and "model_type" in part:
                _with(part, change)
    return small


_GONE = ("out_features", "out_indices", "stage_names", "per_layer_config", "_out_features", "_out_indices")


def shrunk(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with small numbers, its parts too."""
    if not all(isinstance(name, str) for name in config):  # labels by number
        return dict(config)
    small = {name: _small(name, value) for name, value in config.items() if name not in _GONE}
    _layers(config, small)
    _tokens(small)
    return small


def _small(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return (
            {k: _section(v) if "mrope_section" in k else v for k, v in value.items()}
            if name.startswith("rope")
            else shrunk(value)
        )
    if isinstance(value, bool) or _KEPT.fullmatch(name):
        return value
    if isinstance(value, int):
        return _number(name, value)
    if isinstance(value, list | tuple) and value and all(type(x) is int for x in value):
        return _numbers(name, list(value))
    return value


def _number(name: str, value: int) -> int:
    for pattern, most in _NUMBERS.items():
        if re.fullmatch(pattern, name):
            return min(value, most)
    return value


def _numbers(name: str, values: list[int]) -> list[int]:
    if re.search(r"depths|layers|num_blocks|blocks_per|layer_repeats|block_repeats", name):
        return [min(v, 1) for v in values]
    if re.search(r"heads", name):
        return [min(v, 2) for v in values]
    if (
        re.search(r"hidden_sizes|embed_dims?|hidden_dims?|channels|dims|widths|conv_dim|sizes$", name)
        and min(values) >= 16
    ):
        low = min(values)
        return [16 * min(max(1, v // low), 4) for v in values]
    if re.search(r"mrope_section", name):
        return _section(values)
    if re.search(r"image_size|img_size", name):
        return [32] * len(values)
    return values


def _section(values: list[int]) -> list[int]:
    return [2, 1, 1][: len(values)]


def _layers(old: Mapping[str, Any], small: dict[str, Any]) -> None:
    """Lists with an entry a layer: the first entry of each kind."""
    count = old.get("num_hidden_layers")
    for name, value in old.items():
        if isinstance(value, list) and count and len(value) == count and count > 2:
            kinds = [x for i, x in enumerate(value) if x not in value[:i]][:2]
            small[name] = (kinds * 2)[:2]


def _tokens(small: dict[str, Any]) -> None:
    """Numbers of tokens within the vocabulary, each its own."""
    used = 0
    for name, value in small.items():
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int) and value >= 60:
            small[name] = 60 + used
            used += 1
        elif name.endswith(("_token_id", "_token_index")) and isinstance(value, list):
            small[name] = [2]
