"""Time and memory of merging two sharded folders, beside a copy of one of them, and mergekit.

    python benchmarks/streaming.py FOLDER [--gigabytes 1] [--rounds 3] [--mergekit .../bin/mergekit-yaml]

Makes in FOLDER two networks in bfloat16 with the names of a Llama, and the alignment by which B was planted:
its MLP units and heads are in another order. Every round runs, one after the other: cp of A with fsync; a
merge by -m none; one by the alignment; and mergekit's linear merge with --lazy-unpickle --low-cpu-memory.
Before each run all that was written before is on the disk; with --cold the inputs are not in the page cache.
A command counts from start to exit, imports and all. Printed is the median of the rounds, over that of cp,
the peak of the anonymous memory (RssAnon, sampled every 5 ms), and the peak of all that was resident, mapped
files among them (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.memory import anonymous
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import save_alignment
from deepalign_cli.checkpoint import Entry, open_checkpoint, write_safetensors
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry

WIDTH, MLP, HEAD, HEADS, SHARED, WORDS = 2048, 5504, 128, 16, 4, 32_000
SHARD = 500_000_000
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH,
    "intermediate_size": MLP, "num_attention_heads": HEADS, "num_key_value_heads": SHARED,
    "head_dim": HEAD, "vocab_size": WORDS, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
}  # fmt: skip
_LAYER = {
    "self_attn.q_proj.weight": (f"g{{0}}*{HEADS // SHARED}*{HEAD} {WIDTH}", (HEADS * HEAD, WIDTH)),
    "self_attn.k_proj.weight": (f"g{{0}}*{HEAD} {WIDTH}", (SHARED * HEAD, WIDTH)),
    "self_attn.v_proj.weight": (f"g{{0}}*{HEAD} {WIDTH}", (SHARED * HEAD, WIDTH)),
    "self_attn.o_proj.weight": (f"{WIDTH} g{{0}}*{HEADS // SHARED}*{HEAD}", (WIDTH, HEADS * HEAD)),
    "mlp.gate_proj.weight": (f"k{{0}} {WIDTH}", (MLP, WIDTH)),
    "mlp.up_proj.weight": (f"k{{0}} {WIDTH}", (MLP, WIDTH)),
    "mlp.down_proj.weight": (f"{WIDTH} k{{0}}", (WIDTH, MLP)),
    "input_layernorm.weight": (f"{WIDTH}", (WIDTH,)),
    "post_attention_layernorm.weight": (f"{WIDTH}", (WIDTH,)),
}


@dataclass
class Runs:
    """What was measured of one command."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    anonymous: int = 0
    resident: int = 0


def axes_of(layers: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every tensor's axes in the notation of specs, and its shape."""
    ends = {"model.embed_tokens.weight": (f"{WORDS} {WIDTH}", (WORDS, WIDTH))}
    ends |= {
        "model.norm.weight": (f"{WIDTH}", (WIDTH,)),
        "lm_head.weight": (f"{WORDS} {WIDTH}", (WORDS, WIDTH)),
    }
    blocks = {
        f"model.layers.{i}.{name}": (axes.format(i), shape)
        for i in range(layers)
        for name, (axes, shape) in _LAYER.items()
    }
    return {**blocks, **ends}


def make(folder: Path, gigabytes: float) -> tuple[Path, Path, Path]:
    """A, B, and the file of the alignment that carries B onto A; what is there already stays."""
    per_layer = 2 * sum(torch.Size(shape).numel() for _, shape in _LAYER.values())
    layers = max(1, round((gigabytes * 1e9 - 4 * WORDS * WIDTH) / per_layer))
    table = axes_of(layers)
    a, b, saved = (folder / name for name in (f"a-{layers}", f"b-{layers}", f"ab-{layers}.alignment"))
    if saved.exists():
        return a, b, saved
    text = "[axes]\n" + "".join(f'"{name}" = "{axes}"\n' for name, (axes, _) in table.items())
    symmetry = Symmetry(Spec.parse(text), {name: shape for name, (_, shape) in table.items()})
    generator = torch.Generator().manual_seed(0)
    planted = symmetry.random(generator)
    block = torch.randn(1 << 24, generator=generator) / WIDTH**0.5
    near = (block + 0.3 * torch.randn(block.shape, generator=generator) / WIDTH**0.5).bfloat16()
    own, back = block.bfloat16(), planted.inverse()
    write_folder(a, table, lambda name, place: values(own, place, table[name][1]), layers)
    write_folder(
        b, table, lambda name, place: symmetry.act(back, name, values(near, place, table[name][1])), layers
    )
    hashes = open_checkpoint(a).sha256(), open_checkpoint(b).sha256()
    save_alignment(saved, Alignment(symmetry, planted, "planted", 0.0, 1.0, 0.5), hashes)
    return a, b, saved


def values(block: Tensor, place: int, shape: Sequence[int]) -> Tensor:
    """A tensor of random values: those of the block, from another place for each tensor."""
    size = torch.Size(shape).numel()
    start = place * 1_000_003 % len(block)
    times = -(-(start + size) // len(block))
    return block.repeat(times)[start : start + size].view(*shape)


def write_folder(
    folder: Path,
    table: dict[str, tuple[str, tuple[int, ...]]],
    make: Callable[[str, int], Tensor],
    layers: int,
) -> None:
    """Shards of at most `SHARD` bytes, an index, and a config.json."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    entries = [Entry(name, "BF16", shape) for name, (_, shape) in table.items()]
    shards: list[list[Entry]] = [[]]
    for entry in entries:
        if shards[-1] and sum(one.nbytes for one in (*shards[-1], entry)) > SHARD:
            shards.append([])
        shards[-1].append(entry)
    places = {name: place for place, name in enumerate(table)}
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        index |= {entry.name: name for entry in shard}
        write_safetensors(folder / name, shard, lambda key: make(key, places[key]), {"format": "pt"})
    total = {"total_size": sum(entry.nbytes for entry in entries)}
    text = json.dumps({"metadata": total, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))


def watch(command: Sequence[str | Path], runs: Runs) -> None:
    """Run a command and note its time and memory."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while (done := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        runs.anonymous = max(runs.anonymous, anonymous(process.pid))
        time.sleep(0.005)
    runs.seconds.append(time.perf_counter() - started)
    usage = done[2]
    runs.cpu.append(usage.ru_utime + usage.ru_stime)
    runs.resident = max(runs.resident, usage.ru_maxrss * 1024)
    if done[1]:
        raise SystemExit(
            f"{command} failed: {process.stderr.read().decode()[-2000:] if process.stderr else ''}"
        )


def copy(source: Path, target: Path, runs: Runs) -> None:
    """Copy a folder with cp, and bring it to the disk."""
    started = time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    for path in sorted(target.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    runs.seconds.append(time.perf_counter() - started)


def forget(*folders: Path) -> None:
    """Drop the folders' files from the page cache."""
    for path in (path for folder in folders for path in folder.iterdir()):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def commands(
    a: Path, b: Path, saved: Path, out: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, list[str]]]:
    """What is measured, by name."""
    mergekit = arguments.mergekit
    merge = [sys.executable, "-m", "deepalign_cli", "merge", str(a), str(b), "-q", "-o", f"{out}/"]
    merge += ["--max-shard-size", arguments.max_shard_size]
    yield "merge -m none", [*merge, "-m", "none"]
    yield "merge --alignment", [*merge, "--alignment", str(saved)]
    if mergekit is not None:
        models = "".join(f"  - model: {one}\n    parameters: {{weight: 0.5}}\n" for one in (a, b))
        config = out.parent / "mergekit.yaml"
        config.write_text(f"models:\n{models}merge_method: linear\ndtype: bfloat16\n")
        how = ["--lazy-unpickle", "--low-cpu-memory", "--quiet", "--no-copy-tokenizer"]
        yield "mergekit linear", [str(mergekit), str(config), str(out), *how]


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mergekit", type=Path, help="its mergekit-yaml, in an environment of its own")
    parser.add_argument("--max-shard-size", default="5GB", help="that of the merges")
    parser.add_argument("--cold", action="store_true", help="read the inputs from the disk each time")
    arguments = parser.parse_args()
    a, b, saved = make(arguments.folder, arguments.gigabytes)
    out = arguments.folder / "out"
    table: dict[str, Runs] = {"cp and fsync of A": Runs()}
    for _ in range(arguments.rounds):
        for name, command in (
            ("cp and fsync of A", None), *commands(a, b, saved, out, arguments),
        ):  # fmt: skip
            shutil.rmtree(out, ignore_errors=True)
            os.sync()
            if arguments.cold:
                forget(a, b)
            runs = table.setdefault(name, Runs())
            watch(command, runs) if command else copy(a, out, runs)
    shutil.rmtree(out, ignore_errors=True)
    report(table, sum(path.stat().st_size for path in a.iterdir()))


def report(table: dict[str, Runs], size: int) -> None:
    """Print the table."""
    base = statistics.median(table["cp and fsync of A"].seconds)
    print(f"two networks of {size / 1e9:.2f} GB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("| | seconds: median (of) | times cp | CPU seconds | peak anonymous MB | peak resident MB |")
    print("|---|---|---|---|---|---|")
    for name, runs in table.items():
        middle = statistics.median(runs.seconds)
        each = ", ".join(f"{one:.1f}" for one in runs.seconds)
        cpu = f"{statistics.median(runs.cpu):.1f}" if runs.cpu else ""
        memory = f"{runs.anonymous / 1e6:.0f} | {runs.resident / 1e6:.0f}" if runs.cpu else " | "
        print(f"| {name} | {middle:.1f} ({each}) | {middle / base:.2f} | {cpu} | {memory} |")


if __name__ == "__main__":
    main()
