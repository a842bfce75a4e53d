"""The tables that mergekit_parity.sh prints: every combiner against mergekit's method of that name.

    python benchmarks/mergekit_parity.py reference FOLDER   # with mergekit: makes and merges the networks
    python benchmarks/mergekit_parity.py compare FOLDER     # with deepalign: merges them too, and compares

The networks are random Llamas of three layers in float32. The first table has the largest difference over all
numbers, for each set of networks; the second, of methods that draw numbers, how many entries change, and how
far along the sum of the task vectors. Which of equal entries comes first is left to torch's sort: for the set
"stable" mergekit's sorts are made to keep their order, as deepalign does.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mergekit_cases import EXACT, NETWORKS, RANDOM, SETS, Case
from safetensors.torch import load_file, save_file
from torch import Tensor

SEEDS = 8  # merges of each random method
SAMPLE = "model.layers.0.self_attn.k_proj.weight"


def reference(folder: Path) -> None:
    """Make the networks, and merge them with mergekit."""
    import logging

    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    logging.disable(logging.WARNING)
    for name, deviation in SETS.items():
        place = folder / name
        make_networks(place, deviation, rounded=name in ("rounded", "stable"))
        with stable_sorts() if name == "stable" else nullcontext():
            for case in EXACT:
                config = MergeConfiguration.model_validate(case.config(str(place)))
                run_merge(config, str(output(place, case)), MergeOptions(copy_tokenizer=False, quiet=True))
    place = folder / "tuned"
    for case in RANDOM:
        config = MergeConfiguration.model_validate(case.config(str(place)))
        for seed in range(SEEDS):
            options = MergeOptions(copy_tokenizer=False, quiet=True, random_seed=seed)
            run_merge(config, str(output(place, case, seed)), options)
    make_networks(folder / "sample", SETS["tuned"], hidden=16)
    for case in EXACT:
        config = MergeConfiguration.model_validate(case.config(str(folder / "sample")))
        run_merge(
            config, str(output(folder / "sample", case)), MergeOptions(copy_tokenizer=False, quiet=True)
        )
    save_sample(folder / "sample", folder / "mergekit.safetensors")


def save_sample(folder: Path, file: Path) -> None:
    """One small tensor of the networks and of every merge of them, for the tests of the package."""
    tensors = {name: network(folder / name)[SAMPLE] for name in ("base", *NETWORKS)}
    cases = [case for case in EXACT if "--weights-for" not in case.options]  # one tensor has no layers
    tensors |= {case.name: network(output(folder, case))[SAMPLE] for case in cases}
    how = {
        case.name: " ".join([",".join(case.networks), "base" if case.base else "none", *case.options])
        for case in cases
    }
    save_file(tensors, file, metadata=how)


@contextmanager
def stable_sorts() -> Iterator[None]:
    """Torch's sorts keep the order of equal entries."""

    def top(w: Tensor, k: int, largest: bool = True) -> tuple[Tensor, Tensor]:
        order = torch.sort(w, descending=largest, stable=True)
        return order.values[:k], order.indices[:k]

    sorts = {name: partial(getattr(torch, name), stable=True) for name in ("sort", "argsort")}
    with patch.multiple(torch, topk=top, **sorts):
        yield


def make_networks(folder: Path, deviation: float | None, *, rounded: bool = False, hidden: int = 64) -> None:
    """A base, and networks a step of that deviation away from it, as folders that transformers loads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=160, hidden_size=hidden, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    base = LlamaForCausalLM(config).float()
    for place, name in enumerate(("base", *NETWORKS)):
        torch.manual_seed(place)
        network = LlamaForCausalLM(config).float()
        for w, start in zip(network.parameters(), base.parameters(), strict=True):
            noise = torch.randn_like(w)
            if w.ndim == 1 and deviation is None:
                w.data += 0.02 * noise
            elif deviation is not None:
                w.data = start.data + deviation * noise * (name != "base")
            if rounded:
                w.data = w.data.bfloat16().float()
        network.save_pretrained(folder / name)


def output(folder: Path, case: Case, seed: int = 0) -> Path:
    """Where mergekit's merge lies; seed 0 of methods that draw nothing."""
    return folder / "merged" / f"{case.name.replace(' ', '-')}-{seed}"


def compare(folder: Path) -> None:
    """Merge the same networks with deepalign, and print both tables."""
    print(f"| largest difference | {' | '.join(SETS)} |\n|{' --- |' * (1 + len(SETS))}")
    for case in EXACT:
        cells = [difference(folder / name, case) for name in SETS]
        print(f"| `{case.name}` | {' | '.join(cells)} |", flush=True)
    print()
    heads = [f"{what}, {who}" for what in ("changed", "along") for who in ("mergekit", "deepalign")]
    print(f"| random, on `tuned` | {' | '.join(heads)} |\n|{' --- |' * 5}")
    for case in RANDOM:
        pairs = zip(*statistics(folder / "tuned", case), strict=True)
        figures = [f"{mean:.4f} +- {spread:.4f}" for pair in pairs for mean, spread in pair]
        print(f"| `{case.name}` | {' | '.join(figures)} |", flush=True)


def difference(folder: Path, case: Case) -> str:
    """The largest over all numbers of a network, and how many differ by more than 1e-6, if any does."""
    theirs, ours = network(output(folder, case)), merged(folder, case)
    assert theirs.keys() == ours.keys(), theirs.keys() ^ ours.keys()
    apart = (flat(theirs) - flat(ours)).abs()
    most, share = float(apart.max()), float((apart > 1e-6).double().mean())
    return f"{most:.1e} ({share:.2%})" if share else f"{most:.1e}" if most else "0"


def statistics(folder: Path, case: Case) -> list[list[tuple[float, float]]]:
    """Of mergekit and deepalign: the share of entries that change, and how far along the sum of task vectors.

    Both with their deviation over seeds.
    """
    base = flat(network(folder / "base"))
    total = sum((flat(network(folder / name)) - base for name in case.networks), torch.zeros_like(base))
    told = []
    for made in (lambda seed: network(output(folder, case, seed)), lambda seed: merged(folder, case, seed)):
        changes = [flat(made(seed)) - base for seed in range(SEEDS)]
        shares = torch.tensor([float((change != 0).double().mean()) for change in changes])
        along = torch.tensor([float(change @ total / (total @ total)) for change in changes])
        told.append([(float(x.mean()), float(x.std())) for x in (shares, along)])
    return told


def merged(folder: Path, case: Case, seed: int | None = None) -> dict[str, Tensor]:
    """The network that deepalign makes."""
    from deepalign_cli.cli.main import main

    out = folder / "deepalign.safetensors"
    seeding = ["--seed", str(seed)] if seed is not None else []
    with redirect_stdout(io.StringIO()):
        code = main([*case.command(str(folder), str(out)), *seeding])
    assert not code, f"{case.name}: exit code {code}"
    return load_file(out)


def network(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder."""
    index = folder / "model.safetensors.index.json"
    files: set[Any] = (
        set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    )
    return {name: w for file in sorted(files) for name, w in load_file(folder / file).items()}


def flat(tensors: dict[str, Tensor]) -> Tensor:
    """All numbers in one line, in float64."""
    return torch.cat([tensors[name].double().reshape(-1) for name in sorted(tensors)])


def main() -> None:
    """Make mergekit's merges, or compare them with deepalign's."""
    parser = argparse.ArgumentParser(description="Every combiner against mergekit's method of that name.")
    parser.add_argument("step", choices=["reference", "compare"])
    parser.add_argument("folder", type=Path)
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    reference(told.folder) if told.step == "reference" else compare(told.folder)


if __name__ == "__main__":
    main()
