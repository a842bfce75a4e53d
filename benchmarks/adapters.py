"""Merged LoRA adapters against peft: what it loads, the error that was told, its own merge, and the time.

    pip install peft transformers
    python benchmarks/adapters.py

Three adapters of one small random Llama and GPT-2 (two layers, 32 wide), of ranks 4, 6 and 3, one of them
with rsLoRA, are merged by 0.5, 0.3, 0.2 with `deepalign merge`. peft loads the result and merges it into the
base; what that changes is compared with the weighted sum of what the three change by peft, in float64.
Then the time of one 4096 x 4096 weight with adapters of rank 16: from the factors, and from the whole.
"""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import deepalign_cli as da
from deepalign_cli.combiners.low_rank import spectrum, summed

WEIGHTS = (0.5, 0.3, 0.2)
KINDS = ((4, 8, False), (6, 5, True), (3, 3, False))  # rank, alpha, rsLoRA


def networks() -> Iterator[tuple[str, nn.Module, dict[str, Any]]]:
    """Small random networks, and which of their modules have adapters."""
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    yield "Llama", LlamaForCausalLM(llama), {"target_modules": ["q_proj", "v_proj", "embed_tokens"]}
    gpt = GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    yield "GPT-2", GPT2LMHeadModel(gpt), {"target_modules": ["c_attn"], "fan_in_fan_out": True}


def change(model: Any, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an adapter changes in its base, as peft merges it."""
    merged = model.merge_and_unload().state_dict()
    return {name: merged[name].double() - w.double() for name, w in base.items()}


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The norm of the difference over that of the other."""
    lost = sum(float((one[name] - w).square().sum()) for name, w in other.items())
    return float((lost / sum(float(w.square().sum()) for w in other.values())) ** 0.5)


def rows(folder: Path) -> Iterator[list[str]]:
    """For every network and rank: the error told, the error by peft, that of peft's own combination."""
    for name, base, targets in networks():
        state, wanted = {k: w.clone() for k, w in base.state_dict().items()}, {}
        for i, (rank, alpha, rslora) in enumerate(KINDS):
            config = LoraConfig(r=rank, lora_alpha=alpha, use_rslora=rslora, **targets)
            model = get_peft_model(copy.deepcopy(base), config)
            for key, w in model.named_parameters():
                if "lora_" in key:
                    nn.init.normal_(w, std=0.1)
            model.save_pretrained(folder / f"{name}{i}")
            for key, w in change(model, state).items():
                wanted[key] = wanted.get(key, 0) + WEIGHTS[i] * w
        paths = [folder / f"{name}{i}" for i in range(3)]
        for rank in (13, 5):
            out = folder / f"{name}-{rank}"
            told = da.open(written(paths, rank, out)).metadata["deepalign.relative_error"]
            loaded = PeftModel.from_pretrained(copy.deepcopy(base), out)
            own = PeftModel.from_pretrained(copy.deepcopy(base), paths[0], adapter_name="0")
            for i in (1, 2):
                own.load_adapter(paths[i], adapter_name=str(i))
            own.add_weighted_adapter(["0", "1", "2"], WEIGHTS, "sum", combination_type="svd", svd_rank=rank)
            own.set_adapter("sum")
            errors = (float(told), apart(change(loaded, state), wanted), apart(change(own, state), wanted))
            yield [name, str(rank), *(f"{error:.7f}" for error in errors)]


def written(paths: list[Path], rank: int, out: Path) -> Path:
    """The file of the adapter that some are merged into."""
    da.merge(paths, weights=WEIGHTS, rank=rank, out=out)
    return out / "adapter_model.safetensors"


def seconds(count: int, size: int = 4096, rank: int = 16) -> tuple[float, float]:
    """How long the spectrum of one weight takes: from the factors of some adapters, and from the whole."""
    pairs = [(torch.randn(size, rank), torch.randn(rank, size)) for _ in range(count)]
    started = time.perf_counter()
    summed(pairs, [1 / count] * count)
    between = time.perf_counter()
    spectrum(sum((b @ a for b, a in pairs), torch.zeros(size, size)))
    return between - started, time.perf_counter() - between


def main() -> None:
    """Print the table and the times."""
    warnings.simplefilter("ignore")
    print("| network | rank | error told | error by peft | peft's own (svd) |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder)):
            print("|", " | ".join(row), "|", flush=True)
    fast, slow = seconds(4)
    print(f"4 adapters of rank 16, 4096 x 4096: {fast:.2f} s from the factors, {slow:.1f} s from the whole")


if __name__ == "__main__":
    main()
