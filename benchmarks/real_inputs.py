"""Valid inputs of the four kinds of network: atoms of real molecules, genes, piles of reads, peptides."""

from __future__ import annotations

import ast
import csv
import math
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from real_networks import ELEMENTS
from torch import Tensor

Generator = np.random.Generator
_AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWYX"
_LONGEST = 15  # residues; MHCnuggets pads to it
_CODONS = [f"{a}{b}{c}" for a in "ACGT" for b in "ACGT" for c in "ACGT"]


# Molecules


def molecules(ase: Path) -> list[tuple[list[int], np.ndarray]]:
    """The closed-shell molecules of H, C, N and O in the G2 set that ase ships: elements and positions."""
    entries: dict[str, dict] = {}
    for name in ("g2_1.py", "g2_2.py"):
        tree = ast.parse((ase / "data" / name).read_text())
        entries |= next(
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "data"
        )
    chosen = []
    for entry in entries.values():
        symbols = _symbols(entry["symbols"])
        if set(symbols) <= set(ELEMENTS) and not entry.get("magmoms") and len(symbols) > 1:
            chosen.append(([ELEMENTS.index(s) for s in symbols], np.array(entry["positions"])))
    return chosen


def _symbols(formula: str) -> list[str]:
    """`CH3` and `CHHH` alike, and other elements under their own names."""
    pairs = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    return [symbol for symbol, count in pairs for _ in range(int(count or 1))]


def surroundings(elements: list[int], positions: np.ndarray) -> Float[Tensor, "atoms 384"]:
    """ANI's atomic environment vectors (Smith et al. 2017, eq. 3 and 4), by the constants of ANI-1x."""
    at, kinds, count = torch.from_numpy(positions), torch.tensor(elements), len(elements)
    apart = at[None] - at[:, None]
    distances = apart.norm(dim=-1)
    radial = torch.zeros(count, 4, 16, dtype=at.dtype)
    i, j = ((distances <= 5.2) & ~torch.eye(count, dtype=torch.bool)).nonzero(as_tuple=True)
    near = distances[i, j, None]
    bumps = torch.exp(-16 * (near - torch.linspace(0.9, 4.93125, 16, dtype=at.dtype)) ** 2)
    radial.index_put_((i, kinds[j]), 0.25 * bumps * _cutoff(near, 5.2), accumulate=True)

    close = (distances <= 3.5) & ~torch.eye(count, dtype=torch.bool)
    ordered = torch.ones(count, count, dtype=torch.bool).triu(1)
    i, j, k = (close[:, :, None] & close[:, None] & ordered[None]).nonzero(as_tuple=True)
    angular = torch.zeros(count, 10, 32, dtype=at.dtype)
    low, high = torch.minimum(kinds[j], kinds[k]), torch.maximum(kinds[j], kinds[k])
    row = low * 4 - low * (low - 1) // 2 + high - low  # of H-H, H-C, H-N, H-O, C-C, ...
    angular.index_put_((i, row), _angles(apart[i, j], apart[i, k]), accumulate=True)
    return torch.cat([radial.flatten(1), angular.flatten(1)], 1).float()


def _angles(first: Float[Tensor, "t 3"], second: Float[Tensor, "t 3"]) -> Float[Tensor, "t 32"]:
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=1)
    lengths = first.norm(dim=1), second.norm(dim=1)
    shifts = torch.tensor([0.9, 1.55, 2.2, 2.85], dtype=first.dtype)
    angles = (torch.arange(8, dtype=first.dtype) + 0.5) * math.pi / 8
    turned = ((1 + torch.cos(torch.acos(0.95 * cosine)[:, None] - angles)) / 2) ** 32
    far = torch.exp(-8 * (((lengths[0] + lengths[1]) / 2)[:, None] - shifts) ** 2)
    both = _cutoff(lengths[0], 3.5) * _cutoff(lengths[1], 3.5)
    return (2 * both[:, None, None] * far[:, :, None] * turned[:, None]).flatten(1)


def _cutoff(distance: Tensor, end: float) -> Tensor:
    return 0.5 * torch.cos(distance * math.pi / end) + 0.5


def atoms(ase: Path, count: int, rng: Generator) -> Float[Tensor, "n 4 384"]:
    """One atom of each element an example, from molecules shaken by 0.05 angstrom."""
    pools: list[list[Tensor]] = [[] for _ in ELEMENTS]
    every = molecules(ase)
    while min(map(len, pools)) < count // 4:
        for elements, positions in every:
            rows = surroundings(elements, positions + rng.normal(0, 0.05, positions.shape))
            for element, row in zip(elements, rows, strict=True):
                pools[element].append(row)
    picks = [torch.stack(pool)[rng.integers(0, len(pool), count)] for pool in pools]
    return torch.stack(picks, 1)


# Genes


def genes(count: int, length: int, rng: Generator) -> Float[Tensor, "n 4 length"]:
    """Made-up genes, one-hot: exons of codons, introns of GTRAGT, a branch point, pyrimidines, AG."""
    rows = []
    for _ in range(count):
        text = ""
        while len(text) < length:
            text += _intron(rng) + _exon(rng)
        start = rng.integers(0, len(text) - length + 1)
        rows.append([["ACGT".index(base) for base in text[start : start + length]]])
    return torch.nn.functional.one_hot(torch.tensor(rows)[:, 0], 4).transpose(1, 2).float()


def _exon(rng: Generator) -> str:
    sense = [c for c in _CODONS if c not in ("TAA", "TAG", "TGA")]
    likely = np.array([1.5 ** sum(base in "GC" for base in c) for c in sense])
    return "".join(rng.choice(sense, rng.integers(25, 80), p=likely / likely.sum()))


def _intron(rng: Generator) -> str:
    body = "".join(rng.choice(list("ACGT"), rng.integers(150, 1200), p=[0.29, 0.2, 0.21, 0.3]))
    donor = rng.choice(["GTAAGT", "GTGAGT", "GTAAGA", "GTATGT"])
    tract = "".join(rng.choice(list("TCAG"), rng.integers(14, 24), p=[0.55, 0.33, 0.06, 0.06]))
    return donor + body + rng.choice(["CTAAC", "CTGAC", "TTAAC"]) + tract + rng.choice(["CAG", "TAG"])


# Piles of reads


def piles(count: int, length: int, rng: Generator) -> Float[Tensor, "n length 10"]:
    """Columns of aligned reads as medaka counts them: acgtACGTdD over the depth, of drafts with errors."""
    return torch.from_numpy(np.stack([_pile(length, rng) for _ in range(count)]))


def _pile(length: int, rng: Generator) -> np.ndarray:
    depth = int(rng.integers(15, 80))
    columns: list[np.ndarray] = []
    base = int(rng.integers(4))
    while len(columns) < length:
        repeated = rng.random() < 0.3
        base = base if repeated else int(rng.integers(4))
        gone = float(rng.beta(1, 12)) + (0.15 if repeated else 0)
        columns.append(_column(base, depth, gone if rng.random() > 0.02 else 0.9, rng))
        if rng.random() < 0.25:  # some reads hold more than the draft, or the draft lacks a base
            lacking = rng.random() < 0.1
            columns.append(_column(int(rng.integers(4)), depth, 0.2 if lacking else 0.95, rng))
    return np.stack(columns[:length])


def _column(base: int, depth: int, gone: float, rng: Generator) -> np.ndarray:
    """Counts over depth of one column, whose reads lack it with probability `gone`."""
    likely = np.full(5, 0.012)
    likely[base] = 1 - 0.036
    likely[:4] *= 1 - gone
    likely[4] = gone
    forward = int(rng.binomial(depth, 0.5))
    ahead, back = (rng.multinomial(n, likely / likely.sum()) for n in (forward, depth - forward))
    return np.concatenate([back[:4], ahead[:4], back[4:], ahead[4:]]).astype(np.float32) / depth


# Peptides


def peptides(
    tables: list[Path], alleles: tuple[str, ...], count: int, rng: Generator
) -> tuple[Tensor, Tensor]:
    """Peptides that were measured on any of the alleles, as MHCnuggets writes them, and what was measured."""
    rows = []
    for table in tables:
        with table.open(newline="") as file:
            rows += [r for r in csv.DictReader(file) if _saved_name(r["mhc"]) in alleles]
    rows = [r for r in rows if len(r["peptide"]) <= _LONGEST and set(r["peptide"]) <= set(_AMINO_ACIDS)]
    chosen = [rows[i] for i in rng.permutation(len(rows))[:count]]
    bound = [1 - math.log(min(max(float(r["IC50(nM)"]), 1), 50_000), 50_000) for r in chosen]
    return torch.stack([peptide(r["peptide"]) for r in chosen]), torch.tensor(bound)[:, None]


def _saved_name(allele: str) -> str:
    """HLA-DRB1*01:01 as the files of networks have it: HLA-DRB101:01."""
    return allele.replace("*", "")


def peptide(text: str) -> Float[Tensor, "15 21"]:
    """A residue is 0.9 at its place and 0.005 elsewhere; padding is zeros (-4,200,000 in MHCnuggets)."""
    x = torch.zeros(_LONGEST, len(_AMINO_ACIDS))
    x[: len(text)] = 0.1 / 20
    for place, residue in enumerate(text):
        x[place, _AMINO_ACIDS.index(residue)] = 0.9
    return x
