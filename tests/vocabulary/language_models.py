"""Small language models with tokenizers of their own, as folders that transformers loads.

The networks of a pair are one function on the tokens that both have: the second one's hidden units were moved
by a random element, its tokens put in another order, and others added.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.trace import trace_folder
from deepalign_cli.symmetry.resolve import shapes_of
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.wide import Wide

LETTERS = "abcdefghijklmnopqrst"
END = "<|end|>"
CLASSES: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 12}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 12, "tie_word_embeddings": False,
    }),
    "bert": ("BertForMaskedLM", "BertConfig", {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4,
        "max_position_embeddings": 12,
    }),
}  # fmt: skip


def fast_table(
    tokens: Sequence[str], added: Sequence[str] = (END,), kind: str = "WordLevel"
) -> dict[str, Any]:
    """tokenizer.json of words that spaces separate; `added` tokens come behind."""
    entries = [
        {"id": row, "content": token, "special": True, "normalized": False, "single_word": False,
         "lstrip": False, "rstrip": False}
        for row, token in enumerate(added, len(tokens))
    ]  # fmt: skip
    vocab = {token: row for row, token in enumerate(tokens)}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": entries, "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": kind, "vocab": vocab, "unk_token": "a"},
    }  # fmt: skip


def write_tokenizer(folder: Path, table: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(table))
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": int(1e30)}
    (folder / "tokenizer_config.json").write_text(json.dumps({**plain, **(config or {})}))


def saved(kind: str, folder: Path, rows: int, seed: int, **changes: Any) -> Path:
    """A network of a class with so many rows, random and in float64."""
    import transformers

    model, config, values = CLASSES[kind]
    torch.manual_seed(seed)
    net = getattr(transformers, model)(
        getattr(transformers, config)(vocab_size=rows, **{**values, **changes})
    )
    with torch.no_grad():
        for w in net.parameters():
            w.add_(0.3 * torch.randn(w.shape))
    net.double().save_pretrained(folder)
    return folder


def pair(kind: str, home: Path, more: Sequence[str] = ("x", "y"), **changes: Any) -> tuple[Path, Path]:
    """`a`, and `b`: with its hidden units moved, its tokens shuffled, and `more` tokens."""
    a, b = saved(kind, home / "a", len(LETTERS) + 1, 0, **changes), home / "b"
    b.mkdir()
    write_tokenizer(a, fast_table(LETTERS))
    checkpoint = open_checkpoint(a)
    traced = trace_folder(checkpoint)
    assert traced is not None
    symmetry = Symmetry(traced.spec, shapes_of(checkpoint))
    moved = symmetry.apply(symmetry.random(torch.Generator().manual_seed(1)), dict(checkpoint.items()))
    words = random.Random(1).sample([*LETTERS, *more], len(LETTERS) + len(more))
    own = {token: row for row, token in enumerate([*LETTERS, END])}
    rows = torch.tensor([own.get(token, -1) for token in (*words, END)])
    named = {info.stored_name: _rows(moved[info.name], rows, len(own)) for info in checkpoint.infos.values()}
    save_file({n: w.contiguous() for n, w in named.items()}, b / "model.safetensors", {"format": "pt"})
    config = json.loads((a / "config.json").read_text())
    (b / "config.json").write_text(json.dumps({**config, "vocab_size": len(rows)}))
    write_tokenizer(b, fast_table(words))
    return a, b


def _rows(w: Tensor, rows: Tensor, size: int) -> Tensor:
    """A tensor of tokens with these rows, random ones where there are none; another one as it is."""
    if w.shape[:1] != (size,):
        return w
    fresh = torch.randn(len(rows), *w.shape[1:], generator=torch.Generator().manual_seed(2), dtype=w.dtype)
    has = (rows >= 0).reshape(-1, *[1] * (w.ndim - 1))
    return torch.where(has, w[rows.clamp(min=0)], fresh)


def logits(folder: Path, ids: Sequence[int]) -> Tensor:
    """What the network of a folder says of a text, in float64."""
    import transformers

    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    net = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad(), Wide():  # norms and rotary positions, too
        out: Tensor = net(torch.tensor([list(ids)])).logits[0]
    return out


def rows_of(folder: Path) -> dict[str, int]:
    """The rows of a folder's tokens, as transformers reads them."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return dict(tokenizer.get_vocab())


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")
