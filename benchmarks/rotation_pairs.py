"""Pairs of small transformers of the transformers library, trained separately, for what rotates in them.

    python benchmarks/rotation_pairs.py --data DATA --out FOLDER [--only llama-2 vit-mnist]

DATA holds mnist.npz and fashion.npz (`train_images`, `train_labels`, ...). Each pair is a folder:

    FOLDER/NAME/a, FOLDER/NAME/b    two trainings (seeds 0 and 1): config.json and model.safetensors
    FOLDER/NAME/data.safetensors    images and labels, or rows of characters, of training and for testing

It is also read by `--data`. What is there is not trained again. All networks are 64 wide with four heads and
have no dropout:

    vit-*    ViTForImageClassification: pre-LayerNorm, learned positions, 16 patches of 7x7 and a class token
    llama-*  LlamaForCausalLM: RMSNorm, rotary positions, SwiGLU, two key-value heads
    gpt2-*   GPT2LMHeadModel: LayerNorm, learned positions, a head of its own

The two language models continue the characters of Python's standard library; every tenth file is for testing.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rotation_barrier import DATA, Examples, read_examples, score_of
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

WIDTH, HEADS, HIDDEN = 64, 4, 128
CONTEXT = 100  # characters a row
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
TESTED = {"images": 3_000, "rows": 200}
KEPT = {"images": 2_000, "rows": 400}  # of training, for methods that look at data
WARM = 0.05  # the share of the steps in which the rate rises
DECAY = 0.02


def _vit(layers: int) -> nn.Module:
    config = ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=HEADS, intermediate_size=HIDDEN,
        image_size=28, patch_size=7, num_channels=1, num_labels=10,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return ViTForImageClassification(config)


def _llama(layers: int) -> nn.Module:
    config = LlamaConfig(
        vocab_size=len(ALPHABET), hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2, intermediate_size=HIDDEN, max_position_embeddings=CONTEXT,
        tie_word_embeddings=False, use_cache=False, **_NO_MARKS,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _gpt2(layers: int) -> nn.Module:
    config = GPT2Config(
        vocab_size=len(ALPHABET), n_embd=WIDTH, n_layer=layers, n_head=HEADS, n_inner=HIDDEN,
        n_positions=CONTEXT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        tie_word_embeddings=False, use_cache=False, **_NO_MARKS,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


_NO_MARKS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


@dataclass(frozen=True)
class Plan:
    """One pair: how a fresh network is made, what it learns, and for how long."""

    make: Callable[[int], nn.Module]
    layers: int
    source: str  # a file NAME.npz, or text
    steps: int
    batch: int
    rate: float


PLANS: Mapping[str, Plan] = {
    "vit-mnist": Plan(_vit, 2, "mnist", 4_800, 125, 2e-3),
    "llama-2": Plan(_llama, 2, "text", 1_500, 48, 5e-3),
    "vit-fashion": Plan(_vit, 3, "fashion", 2_400, 125, 2e-3),
    "gpt2-2": Plan(_gpt2, 2, "text", 1_000, 48, 5e-3),
}


def images_of(path: Path) -> Examples:
    """Images [n, 1, 28, 28] of bytes and their labels."""
    with np.load(path) as arrays:
        parts = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    return Examples(
        parts["train_images"][:, None], parts["train_labels"].long(),
        parts["test_images"][:, None], parts["test_labels"].long(),
    )  # fmt: skip


def rows_of_text() -> Examples:
    """Rows of CONTEXT characters, as numbers, of Python's own top-level modules; others are left out."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [file.read_text(encoding="utf-8", errors="ignore") for file in files]
    return Examples(
        _rows("".join(text for i, text in enumerate(texts) if i % 10)), None,
        _rows("".join(text for i, text in enumerate(texts) if not i % 10)), None,
    )  # fmt: skip


def _rows(text: str) -> Tensor:
    number = {character: i for i, character in enumerate(ALPHABET)}
    numbers = torch.tensor([number[c] for c in text if c in number])
    return numbers[: len(numbers) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)


def thinned(x: Tensor, count: int) -> Tensor:
    """So many rows, evenly spaced."""
    return x[:: max(1, len(x) // count)][:count].contiguous()


def save_examples(examples: Examples, path: Path) -> None:
    """The part of the examples that methods and measurements read, as `--data` takes it."""
    what = "rows" if examples.train_y is None else "images"
    kept, tested = KEPT[what], TESTED[what]
    if examples.train_y is None or examples.test_y is None:
        tensors = {
            "train_tokens": thinned(examples.train_x, kept),
            "test_tokens": thinned(examples.test_x, tested),
        }
        return save_file(tensors, path)
    tensors = {
        "train_images": thinned(examples.train_x, kept), "train_labels": thinned(examples.train_y, kept),
        "test_images": thinned(examples.test_x, tested), "test_labels": thinned(examples.test_y, tested),
    }  # fmt: skip
    return save_file(tensors, path, {"mean": "0.5", "std": "0.5"})


def batches(examples: Examples, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and answers for every step, reshuffled every epoch; of text at random places in its rows."""
    x, y = examples.train_x, examples.train_y
    if y is None:
        text = x.flatten()
        for _ in range(plan.steps):
            starts = torch.randint(len(text) - CONTEXT, (plan.batch,))
            row = text[starts[:, None] + torch.arange(CONTEXT + 1)]
            yield row[:, :-1], row[:, 1:]
        return
    each = len(x) // plan.batch
    for step in range(plan.steps):
        if step % each == 0:
            order = torch.randperm(len(x))
        rows = order[step % each * plan.batch :][: plan.batch]
        yield x[rows].float() / 127.5 - 1, y[rows]


def train(plan: Plan, seed: int, examples: Examples) -> nn.Module:
    """AdamW; the rate rises, then falls like a cosine."""
    torch.manual_seed(seed)
    model = plan.make(plan.layers)
    optimizer = torch.optim.AdamW(model.parameters(), plan.rate, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step / plan.steps))
    for step, (x, y) in enumerate(batches(examples, plan)):
        logits = model(x).logits
        loss = functional.cross_entropy(logits.flatten(0, -2), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 300 == 0:
            print(f"  step {step}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def _share(done: float) -> float:
    """The rate's share at a share of the steps."""
    if done < WARM:
        return (done + 1e-3) / WARM
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (done - WARM) / (1 - WARM))) / 2


def save_whole(model: Any, folder: Path) -> None:
    """A folder that is either there with all its files, or not."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    unfinished.rename(folder)


def main() -> None:
    """Parse the command line, train what is not there, and print how good each network is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=tuple(PLANS), default=tuple(PLANS))
    arguments = parser.parse_args()
    for name in arguments.only:
        plan, folder = PLANS[name], arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        examples = (
            rows_of_text() if plan.source == "text" else images_of(arguments.data / f"{plan.source}.npz")
        )
        if not (folder / DATA).exists():
            save_examples(examples, folder / DATA)
        for seed, which in enumerate("ab"):
            if (folder / which).exists():
                continue
            started = time.perf_counter()
            model = train(plan, seed, examples)
            save_whole(model, folder / which)
            loss, accuracy = score_of(model, dict(model.state_dict()), read_examples(folder / DATA))
            seconds = time.perf_counter() - started
            print(
                f"{name} {which}: test loss {loss:.4f}, accuracy {accuracy:.4f}; {seconds:.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
