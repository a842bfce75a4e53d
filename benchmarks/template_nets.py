"""The networks of which templates are made: tiny ones of any size, by architecture and class."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Size:
    """Sizes of a tiny network; `patch` also serves wherever a small length is needed."""

    hidden: int
    heads: int
    kv: int
    ffn: int
    vocab: int
    places: int
    layers: int
    types: int
    labels: int
    patch: int


@dataclass(frozen=True)
class Case:
    """A class of transformers with settings that its tensors do not show."""

    cls: str
    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Net:
    """An architecture: its classes, each with the cases that share tensors and must agree."""

    name: str
    model_types: tuple[str, ...]
    sizes: Callable[[Size], dict[str, Any]]
    classes: Mapping[str, tuple[Case, ...]]
    prefix: str = ""
    repeats: tuple[str, ...] = ()
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)  # old buffers; `=NAME`: a second name of NAME
    package: str = "transformers"
    turns: bool = False  # whether the template says what turns

    def build(self, case: Case, size: Size) -> nn.Module:
        """A fresh network."""
        package = importlib.import_module(self.package)
        if not case.config:
            module: nn.Module = getattr(package, case.cls)(**self.sizes(size), **case.settings)
            return module.eval()
        two = {"num_labels": 2} if "QuestionAnswering" in case.cls else {}  # where answers begin and end
        config = getattr(package, case.config)(**{**self.sizes(size), **two, **case.settings})
        model: nn.Module = getattr(package, case.cls)(config, **case.arguments)
        return model.eval()


def _cases(
    config: str, *classes: str, settings: tuple[Mapping[str, Any], ...] = ({},)
) -> dict[str, tuple[Case, ...]]:
    return {cls: tuple(Case(cls, config, s) for s in settings) for cls in classes}


def _bert_like(s: Size) -> dict[str, Any]:
    return {
        "vocab_size": s.vocab, "hidden_size": s.hidden, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "intermediate_size": s.ffn, "max_position_embeddings": s.places,
        "type_vocab_size": s.types, "num_labels": s.labels,
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip


_ACTS = ({"hidden_act": "gelu"}, {"hidden_act": "relu"})
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_HEADS = {"heads": ("num_attention_heads",)}


def _bert() -> Net:
    classes = _cases(
        "BertConfig", "BertModel", "BertForSequenceClassification", "BertForTokenClassification",
        "BertForQuestionAnswering", "BertForMaskedLM", "BertForPreTraining", settings=_ACTS,
    )  # fmt: skip
    classes["BertModel"] += (Case("BertModel", "BertConfig", {}, {"add_pooling_layer": False}),)
    return Net(
        "bert", ("bert",), _bert_like, classes, "bert.", ("encoder.layer.",), _HEADS,
        {"embeddings.position_ids": "1 ?",
         "cls.predictions.decoder.weight": "=embeddings.word_embeddings.weight",
         "cls.predictions.decoder.bias": "=cls.predictions.bias"},
    )  # fmt: skip


def _roberta() -> Net:
    kinds = (
        "Model",
        "ForSequenceClassification",
        "ForTokenClassification",
        "ForQuestionAnswering",
        "ForMaskedLM",
    )
    classes = {}
    for kind in kinds:
        cases = [
            Case(f"{name}{kind}", f"{name}Config", s) for s in _ACTS for name in ("Roberta", "XLMRoberta")
        ]
        if kind == "Model":
            cases.append(Case("RobertaModel", "RobertaConfig", {}, {"add_pooling_layer": False}))
        classes[f"Roberta{kind}"] = tuple(cases)
    return Net(
        "roberta", ("roberta", "xlm-roberta"), _bert_like, classes, "roberta.", ("encoder.layer.",), _HEADS,
        {"embeddings.position_ids": "1 ?", "lm_head.decoder.weight": "=embeddings.word_embeddings.weight",
         "lm_head.decoder.bias": "=lm_head.bias"},
    )  # fmt: skip


def _distilbert() -> Net:
    def sizes(s: Size) -> dict[str, Any]:
        return {
            "vocab_size": s.vocab, "dim": s.hidden, "n_layers": s.layers, "n_heads": s.heads,
            "hidden_dim": s.ffn, "max_position_embeddings": s.places, "num_labels": s.labels,
        }  # fmt: skip

    acts = ({"activation": "gelu"}, {"activation": "relu"})
    classes = _cases(
        "DistilBertConfig", "DistilBertModel", "DistilBertForSequenceClassification",
        "DistilBertForTokenClassification", "DistilBertForQuestionAnswering", "DistilBertForMaskedLM",
        settings=acts,
    )  # fmt: skip
    heads = {"heads": ("n_heads",)}
    return Net("distilbert", ("distilbert",), sizes, classes, "distilbert.", ("transformer.layer.",), heads,
               {"vocab_projector.weight": "=embeddings.word_embeddings.weight"})  # fmt: skip


def _electra() -> Net:
    def sizes(s: Size) -> dict[str, Any]:
        return {**_bert_like(s), "embedding_size": s.hidden + 3}

    classes = _cases(
        "ElectraConfig", "ElectraModel", "ElectraForPreTraining", "ElectraForSequenceClassification",
        "ElectraForTokenClassification", "ElectraForQuestionAnswering", "ElectraForMaskedLM", settings=_ACTS,
    )  # fmt: skip
    return Net("electra", ("electra",), sizes, classes, "electra.", ("encoder.layer.",), _HEADS,
               {"embeddings.position_ids": "1 ?",
                "generator_lm_head.weight": "=embeddings.word_embeddings.weight"})  # fmt: skip


def _gpt2() -> Net:
    def sizes(s: Size) -> dict[str, Any]:
        return {
            "vocab_size": s.vocab, "n_embd": s.hidden, "n_layer": s.layers, "n_head": s.heads,
            "n_inner": s.ffn, "n_positions": s.places, "num_labels": s.labels, "bos_token_id": 0,
            "eos_token_id": 0, "pad_token_id": 1,
        }  # fmt: skip

    settings = (
        {}, {"activation_function": "relu"}, {"scale_attn_by_inverse_layer_idx": True},
        {"tie_word_embeddings": False},
    )  # fmt: skip
    classes = _cases(
        "GPT2Config", "GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification",
        "GPT2ForTokenClassification", settings=settings,
    )  # fmt: skip
    return Net(
        "gpt2", ("gpt2",), sizes, classes, "transformer.", ("h.",), {"heads": ("n_head",)},
        {"h.{i}.attn.bias": "1 1 ? ?", "h.{i}.attn.masked_bias": ""},
    )  # fmt: skip


def _opt() -> Net:
    def sizes(s: Size) -> dict[str, Any]:
        return {
            "vocab_size": s.vocab, "hidden_size": s.hidden, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "ffn_dim": s.ffn, "max_position_embeddings": s.places,
            "word_embed_proj_dim": s.hidden, "num_labels": s.labels, "pad_token_id": 1, "bos_token_id": 2,
            "eos_token_id": 2,
        }  # fmt: skip

    settings = (
        {}, {"activation_function": "gelu"}, {"do_layer_norm_before": False},
        {"_remove_final_layer_norm": True}, {"tie_word_embeddings": False}, {"enable_bias": False},
    )  # fmt: skip
    classes = _cases(
        "OPTConfig", "OPTModel", "OPTForCausalLM", "OPTForSequenceClassification", settings=settings
    )
    return Net("opt", ("opt",), sizes, classes, "model.", ("decoder.layers.",), _HEADS)


def _neox() -> Net:
    settings = (
        {}, {"hidden_act": "relu"}, {"use_parallel_residual": False},
        {"rotary_pct": 1.0, "rope_parameters": {**_ROPE, "partial_rotary_factor": 1.0}},
        {"tie_word_embeddings": True}, {"attention_bias": False},
    )  # fmt: skip
    classes = _cases("GPTNeoXConfig", "GPTNeoXModel", "GPTNeoXForCausalLM", settings=settings)
    return Net(
        "gpt_neox", ("gpt_neox",), _bert_like, classes, "gpt_neox.", ("layers.",), _HEADS,
        {"layers.{i}.attention.bias": "1 1 ? ?", "layers.{i}.attention.masked_bias": "",
         "layers.{i}.attention.rotary_emb.inv_freq": "?"},
    )  # fmt: skip


def _llama_like(s: Size) -> dict[str, Any]:
    return {
        "vocab_size": s.vocab, "hidden_size": s.hidden, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_key_value_heads": s.kv, "intermediate_size": s.ffn,
        "max_position_embeddings": s.places, "num_labels": s.labels, "head_dim": s.hidden // s.heads,
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip


def _decoder(
    name: str, families: tuple[str, ...], model_types: tuple[str, ...], *settings: Mapping[str, Any],
    sizes: Callable[[Size], dict[str, Any]] = _llama_like,
) -> Net:  # fmt: skip
    every = ({"tie_word_embeddings": False}, {"tie_word_embeddings": True}, *settings)
    classes = {
        f"{families[0]}{kind}": tuple(Case(f"{f}{kind}", f"{f}Config", s) for f in families for s in every)
        for kind in ("Model", "ForCausalLM", "ForSequenceClassification")
    }
    return Net(
        name, model_types, sizes, classes, "model.", ("layers.",), _HEADS,
        {"layers.{i}.self_attn.rotary_emb.inv_freq": "?"},
    )  # fmt: skip


def _t5() -> Net:
    def sizes(s: Size) -> dict[str, Any]:
        return {
            "vocab_size": s.vocab, "d_model": s.hidden, "num_layers": s.layers, "num_heads": s.heads,
            "d_ff": s.ffn, "d_kv": s.hidden // s.heads, "relative_attention_num_buckets": 2 * s.places,
            "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
        }  # fmt: skip

    gated = {"feed_forward_proj": "gated-gelu"}
    untied = {"tie_word_embeddings": False}
    classes = {}
    for name, kinds in (
        ("T5EncoderModel", ({},)), ("T5Model", ({},)), ("T5ForConditionalGeneration", ({}, untied)),
    ):  # fmt: skip
        classes[name] = tuple(Case(name, "T5Config", s) for s in kinds) + tuple(
            Case(name, "T5Config", {**s, "feed_forward_proj": "gelu"}) for s in kinds
        )
        classes[f"{name} gated"] = tuple(Case(name, "T5Config", {**s, **gated}) for s in kinds)
    return Net(
        "t5", ("t5",), sizes, classes, "", ("encoder.block.", "decoder.block."), {"heads": ("num_heads",)},
        {"encoder.embed_tokens.weight": "=shared.weight", "decoder.embed_tokens.weight": "=shared.weight"},
    )  # fmt: skip


def _vit_like(s: Size) -> dict[str, Any]:
    return {
        "hidden_size": s.hidden, "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
        "intermediate_size": s.ffn, "image_size": s.heads // 2 * s.patch, "patch_size": s.patch,
        "num_channels": s.types, "num_labels": s.labels,
    }  # fmt: skip


def _vit(name: str, family: str, extra: tuple[str, ...] = ()) -> Net:
    settings = (*_ACTS, {"qkv_bias": False})
    classes = _cases(
        f"{family}Config", f"{family}Model", f"{family}ForImageClassification", *extra, settings=settings
    )
    model = f"{family}Model"
    classes[model] += (Case(model, f"{family}Config", {}, {"add_pooling_layer": False}),)
    return Net(name, (name,), _vit_like, classes, f"{name}.", ("encoder.layer.",), _HEADS)


def _clip() -> Net:
    def sizes(s: Size) -> dict[str, Any]:
        text = {
            "vocab_size": s.vocab, "hidden_size": s.hidden, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "intermediate_size": s.ffn, "max_position_embeddings": s.places,
            "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        }  # fmt: skip
        vision = {
            "hidden_size": 2 * s.hidden, "num_hidden_layers": s.layers, "num_attention_heads": s.heads // 2,
            "intermediate_size": s.ffn + 5, "image_size": s.heads // 2 * s.patch, "patch_size": s.patch,
            "num_channels": s.types,
        }  # fmt: skip
        return {"text_config": text, "vision_config": vision, "projection_dim": s.hidden + 7}

    heads = {
        "text heads": ("text_config.num_attention_heads",),
        "vision heads": ("vision_config.num_attention_heads",),
    }
    return Net(
        "clip", ("clip",), sizes, _cases("CLIPConfig", "CLIPModel"), "",
        ("text_model.encoder.layers.", "vision_model.encoder.layers."), heads,
        {"text_model.embeddings.position_ids": "1 ?", "vision_model.embeddings.position_ids": "1 ?"},
    )  # fmt: skip


def _whisper() -> Net:
    def sizes(s: Size) -> dict[str, Any]:
        return {
            "vocab_size": s.vocab, "d_model": s.hidden, "encoder_layers": s.layers,
            "decoder_layers": s.layers,
            "encoder_attention_heads": s.heads, "decoder_attention_heads": s.heads,
            "encoder_ffn_dim": s.ffn, "decoder_ffn_dim": s.ffn + 5, "max_source_positions": s.places - 1,
            "max_target_positions": s.places + 5, "num_mel_bins": s.types + 9, "decoder_start_token_id": 3,
            "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "begin_suppress_tokens": None,
        }  # fmt: skip

    settings = ({}, {"activation_function": "relu"})
    classes = _cases("WhisperConfig", "WhisperModel", "WhisperForConditionalGeneration", settings=settings)
    heads = {"heads": ("encoder_attention_heads", "decoder_attention_heads")}
    layers = ("encoder.layers.", "decoder.layers.")
    return Net("whisper", ("whisper",), sizes, classes, "model.", layers, heads,
               {"proj_out.weight": "=decoder.embed_tokens.weight"})  # fmt: skip


def _convnext() -> Net:
    def sizes(s: Size) -> dict[str, Any]:
        widths = [s.patch, s.patch + 3, s.patch + 7, s.patch + 12]
        return {"hidden_sizes": widths, "depths": [s.layers] * 4, "image_size": 64, "num_channels": s.types,
                "num_labels": s.labels, "patch_size": 4}  # fmt: skip

    settings = (*_ACTS, {"layer_scale_init_value": 0.0})
    classes = _cases("ConvNextConfig", "ConvNextModel", "ConvNextForImageClassification", settings=settings)
    stages = tuple(f"encoder.stages.{i}.layers." for i in range(4))
    return Net("convnext", ("convnext",), sizes, classes, "convnext.", stages)


def _phi3_sizes(s: Size) -> dict[str, Any]:
    sizes = _llama_like(s)
    del sizes["head_dim"]
    return sizes


# Those whose templates say what turns, too: the commonest.
TURNING = ("bert", "roberta", "gpt2", "llama", "qwen2", "qwen3", "gemma", "vit", "deit")
_EVERY = (
    _bert(), _roberta(), _distilbert(), _electra(), _gpt2(), _opt(), _neox(),
    _decoder("llama", ("Llama", "Mistral"), ("llama", "mistral")),
    _decoder("qwen2", ("Qwen2",), ("qwen2",)),
    _decoder("qwen3", ("Qwen3",), ("qwen3",)),
    _decoder("gemma", ("Gemma",), ("gemma",)),
    _decoder("gemma2", ("Gemma2",), ("gemma2",), {"hidden_activation": "relu"}),
    _decoder("phi3", ("Phi3",), ("phi3",), sizes=_phi3_sizes),
    _t5(), _vit("vit", "ViT"), _vit("deit", "DeiT", ("DeiTForImageClassificationWithTeacher",)),
    _clip(), _whisper(), _convnext(),
)  # fmt: skip
NETWORKS = tuple(replace(net, turns=net.name in TURNING) for net in _EVERY)
