"""Time and peak memory of the default alignment of wide networks, beside weight matching.

    python benchmarks/wide.py FOLDER [--width 2048] [--planted 12:0.3 64:0.3] [--trained 4]
                                     [--methods weights default]

Makes pairs of checkpoints in FOLDER: two ReLU networks of `--trained` hidden layers, trained from two seeds
on what a random network answers; and for each LAYERS:NOISE a chain of square linear layers and a copy of it
with its units in another order and Gaussian noise of so many standard deviations on every tensor. Each pair
is aligned by `-m weights` and by the default, or (`--methods prior`) by `--refine prior`, which predicts and
refines whatever the weights say. Every alignment is a process of its own, whose anonymous memory (RssAnon)
is sampled every 5 ms; the base is an interpreter that has imported torch. Times are the whole process's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from memory import watched
from torch import Tensor, nn
from torch.nn import functional

from deepalign_cli.checkpoint import Entry, write_safetensors

METHODS = {"weights": ["-m", "weights"], "default": [], "prior": ["--refine", "prior"]}
_HEADER = ("pair", "method", "seconds", "MB above torch", "times the first", "memory", "distance", "kept")


def _write(path: Path, shapes: dict[str, tuple[int, ...]], make: Callable[[str], Tensor]) -> None:
    entries = [Entry(name, "F32", shape) for name, shape in shapes.items()]
    write_safetensors(path, entries, make, {"format": "pt"}, force=True)


def make_planted(folder: Path, layers: int, width: int, noise: float) -> tuple[Path, Path]:
    """Write a chain of square layers, and its copy with moved units and noise, a tensor at a time."""
    names = {f"layers.{i}.weight": i for i in range(layers)}
    draw = torch.Generator().manual_seed(0)
    inner = [torch.randperm(width, generator=draw) for _ in range(layers - 1)]
    order = [torch.arange(width), *inner, torch.arange(width)]

    def drawn(seed: int) -> Tensor:
        return torch.randn(width, width, generator=torch.Generator().manual_seed(seed)) / width**0.5

    def copied(name: str) -> Tensor:
        i = names[name]
        w = drawn(i) + noise * drawn(layers + i)
        return w[order[i + 1]][:, order[i]].contiguous()

    paths = folder / "wide-a.safetensors", folder / "wide-b.safetensors"
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names, (width, width))
    _write(paths[0], shapes, lambda name: drawn(names[name]))
    _write(paths[1], shapes, copied)
    return paths


def make_trained(folder: Path, hidden: int, width: int) -> tuple[Path, Path]:
    """Train and write two ReLU networks that answer as a third one does."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    x = torch.randn(4096, 64)
    y = teacher(2 * x).argmax(1)
    paths = folder / "wide-a.safetensors", folder / "wide-b.safetensors"
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        inner = [m for _ in range(hidden - 1) for m in (nn.Linear(width, width), nn.ReLU())]
        net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), *inner, nn.Linear(width, 10))
        optimiser = torch.optim.Adam(net.parameters(), 3e-4)
        for step in range(60):
            rows = torch.arange(64 * step, 64 * step + 256) % len(x)
            optimiser.zero_grad()
            functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
        state = {n: w.detach() for n, w in net.state_dict().items()}
        _write(path, {n: tuple(w.shape) for n, w in state.items()}, state.__getitem__)
    return paths


def measure(pair: tuple[Path, Path], label: str, methods: list[str], base: int) -> Iterator[tuple[str, ...]]:
    """Align a pair by each method; a row of the table each."""
    out = pair[0].with_name("wide-out.safetensors")
    first: tuple[float, float] | None = None
    for method in methods:
        report = out.with_suffix(".json")
        words = ["align", *map(str, pair), "-o", str(out), "--force", "--json", *METHODS[method]]
        with report.open("w") as file:
            seconds, peak = watched([sys.executable, "-m", "deepalign_cli", *words], file)
        found = json.loads(report.read_text())
        mega = (peak - base) / 1e6
        first = first or (seconds, mega)
        yield (
            label, method, f"{seconds:.1f}", f"{mega:.0f}", f"{seconds / first[0]:.2f}",
            f"{mega / first[1]:.2f}", f"{found['distance_after'] / found['distance_before']:.4f}",
            found.get("kept", ""),
        )  # fmt: skip
        report.unlink()
        out.unlink()


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--trained", type=int, default=4, help="hidden layers; 0 for no trained pair")
    parser.add_argument("--planted", nargs="*", default=["12:0.3", "64:0.3"], metavar="LAYERS:NOISE")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=["weights", "default"])
    arguments = parser.parse_args()
    _, base = watched([sys.executable, "-c", "import torch, time; torch.ones(1) + 1; time.sleep(1)"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| " + " | ".join(_HEADER) + " |\n|" + "---|" * len(_HEADER))
    size, folder = arguments.width, arguments.folder
    jobs: list[tuple[str, Callable[[], tuple[Path, Path]]]] = []
    for planted in arguments.planted:
        layers, noise = planted.split(":")
        make = partial(make_planted, folder, int(layers), size, float(noise))
        jobs.append((f"{layers} x {size}, noise {noise}", make))
    if arguments.trained:
        make = partial(make_trained, folder, arguments.trained, size)
        jobs.append((f"{arguments.trained} x {size}, trained", make))
    for label, make in jobs:
        pair = make()
        for row in measure(pair, label, arguments.methods, base):
            print("| " + " | ".join(row) + " |", flush=True)
        for path in pair:
            path.unlink()


if __name__ == "__main__":
    main()
