"""Barriers between networks that were trained by others: the table that real_ensembles.sh prints.

    python benchmarks/real_ensembles.py FOLDER [--only atoms,splice,consensus,binding] [--pairs 4]

FOLDER is the one that real_ensembles.sh filled. No labels are used: the loss of a network on the path is its
distance from the mean of its parents' outputs (mean squared error, or the Kullback-Leibler divergence of
classifiers). The first table has barriers, how far it rises above the straight line between the ends over 11
points; the second the loss of the midpoint, which should be the mean itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import real_checks
import real_files
import real_inputs
import torch
from real_networks import Atoms, Binding, Consensus, Splice
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import deepalign_cli as da

ALPHAS = torch.linspace(0, 1, 11).tolist()
METHODS: dict[str, dict[str, Any]] = {
    "none": {"method": "none"},
    "weights": {"method": "weights", "restarts": 5},
    "activations, noise": {"method": "activations", "data": "noise"},
    "activations, valid": {"method": "activations", "data": "valid"},
    "one pass": {"refine": "none"},
    "default": {},
    "without dreams": {"no_dream": True},
    "with dreams": {"data": "dream"},
}
Weights = dict[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Ensemble:
    """Networks of one architecture. `seen` are inputs to match on, `inputs` those to measure on."""

    title: str
    net: nn.Module
    example: Tensor
    pairs: dict[str, tuple[Weights, Weights]]
    seen: Tensor
    inputs: Tensor
    outputs: Callable[[Tensor], Tensor]  # of the network, to what its parents' mean is taken of
    loss: Loss
    asked: nn.Module | None = None  # what may move, where `net` takes long; the same weights
    score: Callable[[str, Weights], float] | None = (
        None  # a network of a pair by labels: the higher, the better
    )
    skipped: frozenset[str] = frozenset({"without dreams"})  # the default where there is no BatchNorm


# Four packages


def atoms(folder: Path, rng: np.random.Generator) -> list[Ensemble]:
    """Seeds of ANI-1x."""
    unpacked = folder / "unpacked/torchani/torchani/resources/ani-1x_8x"
    members = [real_files.atoms(unpacked / f"train{i}/networks") for i in range(8)]
    ase = folder / "unpacked/ase/ase"
    real_checks.atoms(members, ase)
    inputs = _kept(folder / "atoms.safetensors", lambda: real_inputs.atoms(ase, 3000, rng))
    pairs = {f"{i}, {i + 1}": (members[i], members[i + 1]) for i in range(0, 8, 2)}
    return [
        Ensemble(
            "torchani: four MLPs, CELU", Atoms(), inputs[:3], pairs, inputs[:1500], inputs[1500:],
            _same, functional.mse_loss,
        )
    ]  # fmt: skip


def splice(folder: Path, rng: np.random.Generator) -> list[Ensemble]:
    """SpliceAI's five networks; one gene is to match on, one to measure on."""
    paths = [folder / f"unpacked/spliceai/spliceai/models/spliceai{i}.h5" for i in range(1, 6)]
    members = [real_files.splice(path) for path in paths]
    real_checks.splice(members[0], paths[0], rng)
    inputs = real_inputs.genes(2, 11_500, rng)
    pairs = {f"{i + 1}, {j + 1}": (members[i], members[j]) for i, j in ((0, 1), (2, 3), (4, 0))}
    return [
        Ensemble(
            "spliceai: residual, dilated, BatchNorm", Splice(), inputs[:, :, 5000:6000], pairs,
            inputs[:1], inputs[1:], _probabilities(1), _divergence(1), Splice(margin=20),
            skipped=frozenset({"with dreams"}),  # careful ones take an hour; the default has quick ones
        )
    ]  # fmt: skip


def consensus(folder: Path, rng: np.random.Generator) -> list[Ensemble]:
    """Networks for one kind of pore and device, but for other versions of the basecaller."""

    def member(name: str) -> Weights:
        return real_files.consensus(folder / f"unpacked/medaka/medaka/data/{name}_model.hdf5")

    names = [
        ("r941_min_high_g344", "r941_min_high_g351"), ("r941_min_high_g351", "r941_min_high_g360"),
        ("r941_prom_high_g344", "r941_prom_high_g360"), ("r103_min_high_g345", "r103_min_high_g360"),
    ]  # fmt: skip
    pairs = {f"{a}, {b}": (member(a), member(b)) for a, b in names}
    for a, b in pairs.values():
        real_checks.consensus(a, rng)
        real_checks.consensus(b, rng)
    inputs = real_inputs.piles(80, 100, rng)
    return [
        Ensemble(
            "medaka: two bidirectional GRUs", Consensus(), inputs[:2, :12], pairs, inputs[:40], inputs[40:],
            _probabilities(2), _divergence(2),
        )
    ]  # fmt: skip


def binding(folder: Path, rng: np.random.Generator) -> list[Ensemble]:
    """Networks of alleles. Those of a class were all tuned from one network: two are trained separately."""
    package = folder / "unpacked/mhcnuggets/mhcnuggets"
    real_checks.binding(package)
    tables = [package / f"data/production/{name}/curated_training_data.csv" for name in ("mhcI", "mhcII")]

    def member(name: str) -> Weights:
        return real_files.binding(package / f"saves/production/{name}.h5")

    @torch.no_grad()
    def score(pair: str, weights: Weights) -> float:
        """The correlation with what was measured, a mean over the pair's alleles."""
        net, values = Binding(), []
        net.load_state_dict(weights)
        for name in pair.split(", "):
            allele = (name.split("_")[0],)
            peptides, bound = real_inputs.peptides(tables, allele, 2000, np.random.default_rng(1))
            values.append(np.corrcoef(net(peptides)[:, 0], bound[:, 0])[0, 1])
        return float(np.mean(values))

    def ensemble(title: str, names: list[tuple[str, str]]) -> Ensemble:
        pairs = {f"{a}, {b}": (member(a), member(b)) for a, b in names}
        return Ensemble(
            title, Binding(), x[:3], pairs, x[:1500], x[1500:], _same, functional.mse_loss, score=score
        )  # fmt: skip

    apart = [
        ("HLA-A02:01_BA", "HLA-DRB101:01_BA"),
        ("HLA-A01:01_BA", "HLA-DRB104:01_BA"),
        ("HLA-A02:06_BA", "HLA-DRB115:01_BA"),
    ]
    tuned = [
        ("HLA-A02:01_BA", "HLA-A02:06_BA"),
        ("HLA-A01:01_BA", "HLA-A01:01_BA_to_HLAp"),
        ("HLA-DRB101:01_BA", "HLA-DRB104:01_BA"),
    ]
    alleles = ("HLA-A01:01", "HLA-A02:01", "HLA-A02:06", "HLA-DRB101:01", "HLA-DRB104:01", "HLA-DRB115:01")
    x, _ = real_inputs.peptides(tables, alleles, 3000, rng)
    return [
        ensemble("mhcnuggets: LSTM, trained separately", apart),
        ensemble("mhcnuggets: LSTM, one tuned from the other", tuned),
    ]


ENSEMBLES = {"atoms": atoms, "splice": splice, "consensus": consensus, "binding": binding}


def _kept(path: Path, make: Callable[[], Tensor]) -> Tensor:
    if not path.exists():
        save_file({"x": make().contiguous()}, path)
    return load_file(path)["x"]


# Outputs and losses


def _same(x: Tensor) -> Tensor:
    return x


def _probabilities(axis: int) -> Callable[[Tensor], Tensor]:
    return lambda logits: logits.softmax(axis)


def _divergence(axis: int) -> Loss:
    """KL(mean of the parents || network), a mean over places, in nats."""

    def loss(probabilities: Tensor, wanted: Tensor) -> Tensor:
        ratio = wanted.clamp_min(1e-12).log() - probabilities.clamp_min(1e-12).log()
        return (wanted * ratio).sum(axis).mean()

    return loss


# Measuring


@torch.no_grad()
def outputs(ensemble: Ensemble, weights: Weights) -> Tensor:
    """What a network says on `inputs`; BatchNorm is re-estimated on `seen` first, as in the other tables."""
    net = ensemble.net
    net.load_state_dict(weights)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
        net.train()
        net(ensemble.seen)
    net.eval()
    return ensemble.outputs(net(ensemble.inputs))


def mixed(a: Weights, b: Weights, alpha: float) -> Weights:
    """(1 - alpha) A + alpha B, and A's counters."""
    return {n: torch.lerp(w, b[n], alpha) if w.is_floating_point() else w for n, w in a.items()}


def path(ensemble: Ensemble, a: Weights, moved: Weights, ends: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """The largest excess of the loss above the straight line between the ends, and the midpoint's loss."""
    wanted = (ends[0] + ends[1]) / 2
    first, last = (float(ensemble.loss(end, wanted)) for end in ends)
    losses = [first]
    for alpha in ALPHAS[1:-1]:
        losses.append(float(ensemble.loss(outputs(ensemble, mixed(a, moved, alpha)), wanted)))
    excess = [y - (1 - t) * first - t * last for y, t in zip(losses, ALPHAS[:-1], strict=True)]
    return max(excess), losses[len(ALPHAS) // 2]


def aligned(ensemble: Ensemble, method: str, a: Weights, b: Weights) -> tuple[Weights, str]:
    """B in A's units, and what was kept."""
    options = dict(METHODS[method])
    if options.get("data") in ("noise", "valid"):
        noise = torch.randn(ensemble.seen.shape, generator=torch.Generator().manual_seed(0))
        options["data"] = noise if options["data"] == "noise" else ensemble.seen
    alignment = da.align(a, b, model=((ensemble.asked or ensemble.net).eval(), ensemble.example), **options)
    return {**b, **alignment.apply(b)}, "; ".join(alignment.notes)


def report(ensemble: Ensemble, limit: int) -> list[str]:
    """A row of both tables; a line a pair and method on the way."""
    every: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
    for pair, (a, b) in list(ensemble.pairs.items())[:limit]:
        ends = outputs(ensemble, a), outputs(ensemble, b)
        height = float(ensemble.loss(ends[0], (ends[0] + ends[1]) / 2))
        print(f"{ensemble.title}: {pair}: the loss of A is {height:.4g}", flush=True)
        if ensemble.score:
            print(f"    by labels, A {ensemble.score(pair, a):.3f}, B {ensemble.score(pair, b):.3f}")
        for method in [m for m in METHODS if m not in ensemble.skipped]:
            started = time.perf_counter()
            moved, notes = aligned(ensemble, method, a, b)
            took = time.perf_counter() - started
            found = path(ensemble, a, moved, ends)
            every[method].append(found)
            score = f"by labels {ensemble.score(pair, mixed(a, moved, 0.5)):.3f}  " if ensemble.score else ""
            print(f"    {method:20} {found[0]:.4g}  {found[1]:.4g}  {score}{took:.1f} s  {notes}", flush=True)
    rows = []
    for part in (0, 1):
        values = [[figures[part] for figures in figures_of] for figures_of in every.values()]
        cells = " | ".join(f"{np.mean(v):.3g} +- {np.std(v):.2g}" if v else "" for v in values)
        rows.append(f"| {ensemble.title} ({len(values[0])}) | {cells} |")
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(ENSEMBLES))
    parser.add_argument("--pairs", type=int, default=4)
    options = parser.parse_args()
    rows = []
    for name in options.only.split(","):
        for ensemble in ENSEMBLES[name](options.folder, np.random.default_rng(0)):
            rows.append(report(ensemble, options.pairs))
    for title, part in zip(("Barriers", "Midpoints"), zip(*rows, strict=True), strict=True):
        print(f"\n{title}\n\n| networks (pairs) | " + " | ".join(METHODS) + " |")
        print("|---" * (len(METHODS) + 1) + "|")
        print(*part, sep="\n")


if __name__ == "__main__":
    main()
