"""Streamed activation matching against one that keeps all activations in memory.

    python benchmarks/activations.py --data mnist.npz [--images 50000] [--epochs 2]

Two networks each of an MLP 784-512-512-512-10 and of a small CNN are trained here. Both methods then run in
processes of their own on the same images, read 500 at a time from a file, so that the peak of resident
memory above what it was after importing and loading the weights is the method's own. The reference is
plain PyTorch and scipy: it keeps every activation, standardises, and multiplies once. `objective` is the
sum of matched correlations as the reference counts them, `barrier` that of the test loss over 25 points.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from deepalign_cli.aligners.activations import ActivationMatching
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.measure.curve import Curve
from deepalign_cli.models.designs import Design, config_of, design_of
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.train.known import symmetry_of

DESIGNS: Mapping[str, Design] = {
    "mlp 784-512-512-512-10": MLP((784, 512, 512, 512, 10)),
    "cnn 1-16-32, fc": CNN((1, 16, 32), 28),
}
# The hidden activations in the order of the groups, and how many values a unit has for each image.
PLACES: Mapping[str, tuple[int, ...]] = {"MLP": (1, 1, 1), "CNN": (14 * 14, 7 * 7)}
BATCH = 500
ALPHAS = tuple(i / 24 for i in range(25))


def normalised(images: np.ndarray[Any, Any]) -> Tensor:
    """Pixels around 0."""
    return (torch.from_numpy(images.astype(np.float32)) / 255 - 0.13) / 0.31


def shaped(design: Design, x: Tensor) -> Tensor:
    """Images as the design takes them."""
    return x.reshape(len(x), *design.input_shape)


def trained(design: Design, images: np.ndarray[Any, Any], labels: Tensor, epochs: int, seed: int) -> Weights:
    """A network after some epochs of Adam."""
    rng = torch.Generator().manual_seed(seed)
    weights = {n: w.requires_grad_() for n, w in design.init(rng).items()}
    optimiser = torch.optim.Adam(weights.values(), 1e-3)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=rng)
        for rows in torch.tensor_split(order, len(images) // 100):
            optimiser.zero_grad()
            out = design(weights, shaped(design, normalised(images[rows.numpy()])))
            functional.cross_entropy(out, labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return {n: w.detach() for n, w in weights.items()}


def batches(path: Path, design: Design, count: int) -> Iterator[Tensor]:
    """The images of a raw file, some at a time."""
    with path.open("rb") as file:
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            pixels = np.frombuffer(file.read(784 * size), np.uint8).reshape(size, 784)
            yield shaped(design, normalised(pixels))


def hidden(design: Design, weights: Weights, x: Tensor) -> list[Tensor]:
    """The hidden activations where they are read, one row a sample: written out, without the library."""
    found = []
    if isinstance(design, MLP):
        for i in (1, 2, 3):
            x = torch.relu(x @ weights[f"fc{i}.weight"].T + weights[f"fc{i}.bias"])
            found.append(x)
        return found
    for i in (1, 2):
        x = functional.conv2d(x, weights[f"conv{i}.weight"], weights[f"conv{i}.bias"], padding=1).relu()
        x = functional.max_pool2d(x, 2)
        found.append(x.movedim(1, -1).flatten(0, -2))
    return found


def kept_correlations(
    design: Design, a: Weights, b: Weights, path: Path, count: int
) -> list[np.ndarray[Any, Any]]:
    """The correlations of all hidden units from all activations at once."""
    places = PLACES[type(design).__name__]
    widths = [len(w) for n, w in a.items() if n.endswith("weight")][:-1]
    kept = [
        [torch.empty(count * place, n) for place, n in zip(places, widths, strict=True)] for _ in range(2)
    ]
    start = 0
    with torch.no_grad():
        for x in batches(path, design, count):
            for side, weights in zip(kept, (a, b), strict=True):
                for rows, place, values in zip(side, places, hidden(design, weights, x), strict=True):
                    rows[start * place : start * place + len(values)] = values
            start += len(x)
    for rows in (rows for side in kept for rows in side):
        rows -= rows.mean(0)
        rows /= rows.square().mean(0).sqrt().clamp(min=1e-9)
    return [(one.T @ other / len(one)).numpy() for one, other in zip(*kept, strict=True)]


def resident(field: str) -> float:
    """MB of this process: VmRSS now, or VmHWM, the most since the mark."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def child(arguments: argparse.Namespace) -> None:
    """Match the pair in a folder with one method and print what it took."""
    pair = torch.load(arguments.child / "pair.pt", weights_only=True)
    design, (a, b) = design_of(json.loads(pair["design"])), pair["weights"]
    symmetry = symmetry_of(design, a)
    path, count = arguments.child / "images.raw", arguments.images
    design(a, next(batches(path, design, BATCH)))  # what the first run loads is not the method's
    Path("/proc/self/clear_refs").write_text("5")
    base, started = resident("VmRSS"), time.perf_counter()
    if arguments.method == "streamed":
        method = ActivationMatching(Evidence(design, lambda: batches(path, design, count)))
        found = dict(method(symmetry, a, b, rng=torch.Generator()).element.perm)
    else:
        tables = kept_correlations(design, a, b, path, count)
        columns = [linear_sum_assignment(table, maximize=True)[1] for table in tables]
        found = dict(zip(symmetry.sizes, map(torch.from_numpy, columns), strict=True))
    seconds = time.perf_counter() - started
    made: dict[str, Any] = {"peak": resident("VmHWM") - base, "seconds": seconds}
    if arguments.method == "kept":
        torch.save([torch.from_numpy(table) for table in tables], arguments.child / "tables.pt")
    print(json.dumps({**made, "perm": {g: p.tolist() for g, p in found.items()}}))


def run_child(folder: Path, method: str, images: int) -> dict[str, Any]:
    """What one method took in a process of its own, and its permutations."""
    command = [sys.executable, __file__, "--child", str(folder), "--method", method, "--images", str(images)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(out)
    return found


@torch.no_grad()
def barrier(design: Design, a: Weights, moved: Weights, x: Tensor, labels: Tensor) -> float:
    """The barrier of the test loss."""
    losses = []
    for alpha in ALPHAS:
        out = design({n: torch.lerp(w, moved[n], alpha) for n, w in a.items()}, x)
        losses.append(float(functional.cross_entropy(out, labels)))
    return Curve("", ALPHAS, tuple(losses)).barrier


def objective(tables: list[Tensor], symmetry: Symmetry, perm: Mapping[str, Tensor]) -> float:
    """The sum of matched correlations."""
    return sum(
        float(table[torch.arange(len(table)), perm[g]].sum())
        for table, g in zip(tables, symmetry.sizes, strict=True)
    )


def report(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Train a pair, run both methods, print their lines."""
    design = DESIGNS[name]
    with np.load(arguments.data) as data:
        images, labels = data["train_images"], torch.from_numpy(data["train_labels"]).long()
        test, answers = data["test_images"], torch.from_numpy(data["test_labels"]).long()
    a, b = (trained(design, images, labels, arguments.epochs, seed) for seed in (0, 1))
    torch.save({"design": json.dumps(config_of(design)), "weights": (a, b)}, folder / "pair.pt")
    (folder / "images.raw").write_bytes(images[: arguments.images].tobytes())
    symmetry, x = symmetry_of(design, a), shaped(design, normalised(test))
    print(f"{name}: naive barrier {barrier(design, a, b, x, answers):.4f}")
    peaks = []
    for method in ("kept", "streamed"):
        found = run_child(folder, method, arguments.images)
        perm = {g: torch.tensor(p) for g, p in found["perm"].items()}
        tables = torch.load(folder / "tables.pt", weights_only=True)
        moved = symmetry.apply(Element(perm), b)
        print(
            f"  {method:9} objective {objective(tables, symmetry, perm):9.3f}   "
            f"barrier {barrier(design, a, moved, x, answers):.4f}   "
            f"peak {found['peak']:7.1f} MB   {found['seconds']:5.1f} s"
        )
        peaks.append(found["peak"])
    print(f"  streamed / kept: {peaks[1] / peaks[0]:.3f} of the peak memory", flush=True)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="mnist.npz")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    if arguments.data is None:
        parser.error("--data is needed")
    for name in DESIGNS:
        with tempfile.TemporaryDirectory() as folder:
            report(name, Path(folder), arguments)


if __name__ == "__main__":
    main()
