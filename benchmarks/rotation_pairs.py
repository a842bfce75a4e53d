"""Pairs of small transformers of the transformers library, trained separately, for what rotates in them.

    python benchmarks/rotation_pairs.py --data DATA --out FOLDER [--development] [--only llama-2 vit-mnist]

DATA holds mnist.npz, fashion.npz and cifar10.npz (`train_images`, `train_labels`, ...). A pair is a folder:

    FOLDER/NAME/a, FOLDER/NAME/b    two trainings (seeds 0 and 1): config.json and model.safetensors
    FOLDER/NAME/data.safetensors    images and labels, or rows of characters, of training and for testing

It is also read by `--data`. What is there is not trained again. Networks have no dropout, and those that
results are reported of are 64 wide with four heads:

    vit-*    ViTForImageClassification: pre-LayerNorm, learned positions, 16 patches of 7x7 and a class token
    llama-*  LlamaForCausalLM: RMSNorm, rotary positions, SwiGLU, two key-value heads
    gpt2-*   GPT2LMHeadModel: LayerNorm, learned positions, a head of its own

The two language models continue the characters of Python's standard library; every tenth file is for testing.
Those for development, on which what is tunable is chosen, are of other widths, heads, seeds (10 and 11) and
text (the library's packages in place of its modules), and trained for a shorter time.
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

_NOT_OF_PYTHON = {"site-packages", "test", "__pycache__"}
CONTEXT = 100  # characters a row
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
TESTED = {"images": 3_000, "rows": 200}
KEPT = {"images": 2_000, "rows": 400}  # of training, for methods that look at data
WARM = 0.05  # the share of the steps in which the rate rises
DECAY = 0.02


@dataclass(frozen=True)
class Plan:
    """One pair: how a fresh network is made, what it learns, and for how long."""

    make: Callable[[Plan], nn.Module]
    layers: int
    source: str  # a file NAME.npz, or a pattern of files of the standard library
    steps: int
    batch: int
    rate: float
    width: int = 64
    heads: int = 4
    seeds: tuple[int, int] = (0, 1)

    @property
    def reads_text(self) -> bool:
        return "*" in self.source


def _vit(plan: Plan) -> nn.Module:
    size, channels = (32, 3) if plan.source == "cifar10" else (28, 1)
    config = ViTConfig(
        hidden_size=plan.width, num_hidden_layers=plan.layers, num_attention_heads=plan.heads,
        intermediate_size=2 * plan.width, image_size=size, patch_size=size // 4, num_channels=channels,
        num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return ViTForImageClassification(config)


def _llama(plan: Plan) -> nn.Module:
    config = LlamaConfig(
        vocab_size=len(ALPHABET), hidden_size=plan.width, num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads, num_key_value_heads=plan.heads // 2,
        intermediate_size=2 * plan.width, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
        use_cache=False, **_NO_MARKS,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _gpt2(plan: Plan) -> nn.Module:
    config = GPT2Config(
        vocab_size=len(ALPHABET), n_embd=plan.width, n_layer=plan.layers, n_head=plan.heads,
        n_inner=2 * plan.width, n_positions=CONTEXT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        tie_word_embeddings=False, use_cache=False, **_NO_MARKS,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


_NO_MARKS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_OTHERS = (10, 11)

PLANS: Mapping[str, Plan] = {
    "vit-mnist": Plan(_vit, 2, "mnist", 4_800, 125, 2e-3),
    "llama-2": Plan(_llama, 2, "*.py", 1_500, 48, 5e-3),
    "vit-fashion": Plan(_vit, 3, "fashion", 2_400, 125, 2e-3),
    "gpt2-2": Plan(_gpt2, 2, "*.py", 1_000, 48, 5e-3),
}
DEVELOPMENT: Mapping[str, Plan] = {
    "dev-llama": Plan(_llama, 2, "*/*.py", 900, 32, 5e-3, width=48, heads=6, seeds=_OTHERS),
    "dev-vit-cifar": Plan(_vit, 3, "cifar10", 1_500, 100, 2e-3, width=48, heads=3, seeds=_OTHERS),
    "dev-gpt2": Plan(_gpt2, 2, "*/*.py", 900, 32, 5e-3, width=48, heads=3, seeds=_OTHERS),
    "dev-vit-mnist": Plan(_vit, 2, "mnist", 1_500, 100, 2e-3, width=48, heads=6, seeds=_OTHERS),
}


def images_of(path: Path) -> Examples:
    """Images [n, channels, height, width] of bytes and their labels."""
    with np.load(path) as arrays:
        parts = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    images = (parts[f"{part}_images"] for part in ("train", "test"))
    train, test = (x[:, None] if x.ndim == 3 else x.movedim(-1, 1) for x in images)
    return Examples(train, parts["train_labels"].long(), test, parts["test_labels"].long())


def rows_of_text(pattern: str) -> Examples:
    """Rows of CONTEXT characters, as numbers, of files of Python's standard library; others are left out."""
    top = Path(sysconfig.get_path("stdlib"))
    files = sorted(f for f in top.glob(pattern) if f.parts[len(top.parts)] not in _NOT_OF_PYTHON)
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
    model = plan.make(plan)
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
    parser.add_argument("--development", action="store_true", help="the pairs that things are chosen on")
    parser.add_argument("--only", nargs="+")
    arguments = parser.parse_args()
    plans = DEVELOPMENT if arguments.development else PLANS
    for name in arguments.only or plans:
        plan, folder = plans[name], arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        examples = (
            rows_of_text(plan.source) if plan.reads_text else images_of(arguments.data / f"{plan.source}.npz")
        )
        if not (folder / DATA).exists():
            save_examples(examples, folder / DATA)
        for seed, which in zip(plan.seeds, "ab", strict=True):
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
