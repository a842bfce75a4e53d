"""Two trainings each of five networks that only a trace tells: the barrier naive, by weights, by default.

    python benchmarks/traced_pairs.py DATA FOLDER [--epochs 3] [--only lstm,vit]

DATA holds mnist.npz and fashion.npz (`train_images`, `train_labels`, ...). Networks are kept in FOLDER; run
it again to go on. The U-Net removes noise (mean squared error); the others tell ten classes (cross-entropy).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import deepalign_cli as da
from benchmarks.traced_nets import NETS, make

SETS = {"lstm": "mnist", "unet": "fashion", "mobile": "fashion", "dense": "fashion", "vit": "mnist"}
TRAINED = {"unet": 4_000, "mobile": 12_000, "dense": 12_000, "lstm": 20_000, "vit": 20_000}
TESTED, BATCH = 1_000, 128


def data_of(name: str, folder: Path, part: str, count: int) -> tuple[Tensor, Tensor]:
    """Images in [-1, 1] and labels; of the U-Net noisy images and clean ones."""
    with np.load(folder / f"{SETS[name]}.npz") as arrays:
        images = torch.from_numpy(arrays[f"{part}_images"][:count]).float()[:, None] / 127.5 - 1
        labels = torch.from_numpy(arrays[f"{part}_labels"][:count]).long()
    if name != "unet":
        return images, labels
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(len(images)))
    return images + 0.5 * noise, images


def trained(name: str, seed: int, data: Path, folder: Path, epochs: int) -> Path:
    """The file of a network that was trained from a seed."""
    path = folder / f"{name}-{seed}.pt"
    if path.exists():
        return path
    torch.manual_seed(seed)
    net = make(name)[0]
    x, y = data_of(name, data, "train", TRAINED[name])
    steps = epochs * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    loss = functional.mse_loss if name == "unet" else functional.cross_entropy
    for step in range(steps):
        if step % (len(x) // BATCH) == 0:
            order = torch.randperm(len(x))
        rows = order[(step % (len(x) // BATCH)) * BATCH :][:BATCH]
        optimizer.zero_grad()
        loss(net(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    torch.save(net.state_dict(), path)
    return path


def main() -> None:
    """Print a line a network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", default=",".join(NETS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| network | A | B | naive | weights | default | groups | s |\n|---|---|---|---|---|---|---|---|")
    for name in options.only.split(","):
        a, b = (trained(name, seed, options.data, options.folder, options.epochs) for seed in (0, 1))
        x, y = data_of(name, options.data, "test", TESTED)
        seen, labels = data_of(name, options.data, "train", TESTED)
        started = time.perf_counter()
        sets = {"train": (seen, labels), "test": (x, y)}
        model = make(name)[0]
        curve = da.barrier(
            a, b, method=["none", "weights", "deepalign"], model=model, data=sets, points=11
        ).curves
        ends, barriers = curve[0].losses, {one.method: one.barrier for one in curve}
        values = " | ".join(f"{barriers[m]:.3f}" for m in ("none", "weights", "deepalign"))
        groups = len(da.trace(model, x[:4]).spec.groups())
        seconds = time.perf_counter() - started
        parents = f"{ends[0]:.3f} | {ends[-1]:.3f}"
        print(f"| {name} | {parents} | {values} | {groups} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
