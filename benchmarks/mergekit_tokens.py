"""Embeddings and heads of networks with different vocabularies: deepalign's --tokenizer beside mergekit's.

    python benchmarks/mergekit_tokens.py reference FOLDER   # with mergekit: makes and merges the networks
    python benchmarks/mergekit_tokens.py compare FOLDER     # with deepalign: merges them too, and compares

mergekit_parity.sh installs mergekit 0.1.5 in an environment of its own. The networks are random Llamas of two
layers, with 40, 44 and 38 tokens in orders of their own. Rows are compared token by token: those of tokens
that all networks have, that several have, and that one alone has.
"""

from __future__ import annotations

import argparse
import io
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

HEADS = ("model.embed_tokens.weight", "lm_head.weight")
WORDS = {
    "a": [f"w{i}" for i in range(40)],
    "b": [f"w{i}" for i in range(6, 50)],
    "c": [f"w{i}" for i in (*range(6, 34), *range(50, 60))],
}
# What both are asked for: method, mergekit's tokenizer_source, networks, deepalign's options.
CASES: Sequence[tuple[str, str, str, Sequence[str]]] = (
    ("linear", "union", "abc", ()),
    ("linear", "union", "ab", ()),
    ("linear", "base", "abc", ()),
    ("linear", "base", "ab", ()),
    ("slerp", "base", "ab", ("--alpha", "0.3")),
    ("slerp", "union", "ab", ("--alpha", "0.3")),
    ("task_arithmetic", "union", "abc", ("--weights", "0.5,0.5")),
    ("task_arithmetic", "base", "abc", ("--weights", "0.5,0.5")),
    ("ties", "union", "abc", ("--weights", "0.5,0.5", "--density", "0.4")),
    ("ties", "base", "abc", ("--weights", "0.5,0.5", "--density", "0.4")),
)
ON_BASE = ("task_arithmetic", "ties")


def reference(folder: Path) -> None:
    """Make the networks, and merge them with mergekit."""
    import logging

    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    for seed, name in enumerate(WORDS):
        make_network(folder / name, name, seed)
    logging.disable(logging.WARNING)
    for case in CASES:
        config = MergeConfiguration.model_validate(config_of(folder, *case[:3]))
        run_merge(config, str(output(folder, case)), MergeOptions(quiet=True))


def make_network(folder: Path, name: str, seed: int) -> None:
    """A random Llama with a row for each word, and a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = random.Random(seed).sample(WORDS[name], len(WORDS[name]))
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(seed)
    LlamaForCausalLM(config).float().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="w6"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def config_of(folder: Path, method: str, source: str, networks: str) -> dict[str, object]:
    """What mergekit reads."""
    inputs = networks[1:] if method in ON_BASE else networks
    each: dict[str, object] = {} if method == "slerp" else {"weight": 0.5 if len(inputs) == 2 else 1 / 3}
    each |= {"density": 0.4} if method == "ties" else {}
    base = {} if method == "linear" and source == "union" else {"base_model": str(folder / networks[0])}
    return {
        "merge_method": method, "dtype": "float32", "tokenizer_source": source, **base,
        "models": [{"model": str(folder / name), "parameters": each} for name in inputs],
        "parameters": {"t": 0.3} if method == "slerp" else {},
    }  # fmt: skip


def output(folder: Path, case: tuple[str, str, str, Sequence[str]]) -> Path:
    """Where mergekit's merge lies."""
    return folder / "merged" / "-".join(case[:3])


def compare(folder: Path) -> None:
    """Merge the same networks with deepalign, and print the table."""
    heads = ("method", "tokens", "networks", "that all have", "that several have", "that one has", "all else")
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for case in CASES:
        theirs, ours = read(output(folder, case)), read(merged(folder, case))
        cells = [f"{d:.1e}" if d else "0" for d in differences(case[2], theirs, ours)]
        print(f"| `{case[0]}` | {case[1]} | {', '.join(case[2])} | {' | '.join(cells)} |", flush=True)


def merged(folder: Path, case: tuple[str, str, str, Sequence[str]]) -> Path:
    """The folder that deepalign writes."""
    from deepalign_cli.cli.main import main

    method, source, networks, options = case
    first, *rest = (str(folder / name) for name in networks)
    inputs = [*rest, "--base", first] if method in ON_BASE else [first, *rest]
    mode = "union" if source == "union" else "A"
    how = ["--tokenizer", mode, "--combine", method, "-m", "none", *options]
    with redirect_stdout(io.StringIO()):
        code = main(["merge", *inputs, *how, "-o", f"{folder / 'ours'}/", "--force", "-q"])
    assert not code, f"{case}: exit code {code}"
    return folder / "ours"


Read = tuple[Mapping[str, int], Mapping[str, Tensor]]


def read(folder: Path) -> Read:
    """The rows of a folder's tokens, and its tensors."""
    table = json.loads((folder / "tokenizer.json").read_text())
    added = {entry["content"]: entry["id"] for entry in table["added_tokens"]}
    files = sorted(folder.glob("*.safetensors"))
    return {**table["model"]["vocab"], **added}, {n: w for file in files for n, w in load_file(file).items()}


def differences(networks: str, theirs: Read, ours: Read) -> list[float]:
    """The largest difference in rows of tokens by how many networks have them, and in all other tensors."""
    assert theirs[0].keys() == ours[0].keys()
    owners = {token: sum(token in WORDS[name] for name in networks) for token in ours[0]}
    largest = []
    for wanted in ({len(networks)}, set(range(2, len(networks))), {1}):
        tokens = [token for token, count in owners.items() if count in wanted]
        rows = [[one[0][token] for token in tokens] for one in (theirs, ours)]
        apart = [(theirs[1][name][rows[0]] - ours[1][name][rows[1]]).abs() for name in HEADS]
        largest.append(max((float(one.max()) for one in apart if one.numel()), default=0.0))
    others = [name for name in ours[1] if name not in HEADS]
    return [*largest, max(float((theirs[1][name] - ours[1][name]).abs().max()) for name in others)]


def main() -> None:
    """Make mergekit's merges, or compare them with deepalign's."""
    parser = argparse.ArgumentParser(description="--tokenizer beside mergekit's tokenizer_source.")
    parser.add_argument("step", choices=["reference", "compare"])
    parser.add_argument("folder", type=Path)
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    reference(told.folder) if told.step == "reference" else compare(told.folder)


if __name__ == "__main__":
    main()
