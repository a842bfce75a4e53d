"""TIES against its steps taken entry by entry, and through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.combiners.ties import Ties
from tests import nets
from tests.operations.making import deepalign, generic, planted, save, tensors
from tests.symmetry.builders import seeded


def drawn(count: int, *shape: int) -> list[Tensor]:
    return [torch.randn(*shape, generator=seeded(i), dtype=torch.float64) for i in range(count)]


def by_hand(base: Tensor, others: list[Tensor], weights: list[float], density: float, scale: float) -> Tensor:
    """The three steps of the paper's section 4, one entry after the other."""
    keep = max(1, round(density * base.numel()))
    vectors = []
    for other in others:
        vector = (other - base).flatten()
        largest = vector.abs().sort(descending=True).indices[:keep]
        vectors.append(torch.zeros_like(vector).index_copy(0, largest, vector[largest]))
    merged = []
    for entries in zip(*(v.tolist() for v in vectors), strict=True):
        total = sum(w * e for w, e in zip(weights, entries, strict=True))
        agree = [(w, e) for w, e in zip(weights, entries, strict=True) if e * total > 0]
        share = sum(w for w, _ in agree)
        merged.append(sum(w * e for w, e in agree) / share if share else 0.0)
    return base + scale * torch.tensor(merged, dtype=base.dtype).reshape(base.shape)


@pytest.mark.slow
@given(st.integers(1, 4), st.floats(0.0, 1.0), st.floats(0.1, 2.0), st.integers(0, 99))
def test_the_result_is_that_of_the_steps_taken_one_by_one(
    count: int, density: float, scale: float, seed: int
) -> None:
    base, *others = drawn(count + 1, 5, 4)
    weights = torch.rand(count, generator=seeded(seed), dtype=torch.float64).tolist()
    result = Ties(weights, density, scale)("w", [base, *others])

    assert torch.allclose(result, by_hand(base, others, weights, density, scale), atol=1e-12)


def test_one_network_at_full_density_is_that_network() -> None:
    base, other = drawn(2, 3, 3)

    assert torch.allclose(Ties([1.0], 1.0)("w", [base, other]), other)


def test_entries_that_disagree_are_left_out_and_ties_of_signs_keep_the_base() -> None:
    base = torch.zeros(3)
    first, second = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([1.0, 2.0, -1.0])

    assert Ties([0.5, 0.5], 1.0)("w", [base, first, second]).tolist() == [1.0, 0.0, 3.0]


def test_types_are_the_bases_and_statistics_are_averaged() -> None:
    base, first, second = (torch.full((4,), v) for v in (9.0, 1.0, 3.0))

    assert Ties([0.25, 0.75], 0.1)("bn.running_var", [base, first, second]).tolist() == [2.5] * 4
    assert Ties([1.0])("w", [base.half(), first]).dtype == torch.float16
    assert torch.equal(Ties([1.0])("n", [torch.arange(3), torch.ones(3, dtype=torch.int64)]), torch.arange(3))


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A base, and two networks trained from it, the second with its units in another order."""
    base = generic(nets.named_mlp, 0).state_dict()
    paths = []
    for seed in (1, 2):
        noise = {n: w + 0.1 * torch.randn(w.shape, generator=seeded(seed)) for n, w in base.items()}
        paths.append(save(noise, tmp_path / f"{seed}.safetensors"))
    planted(paths[1], tmp_path / "moved.safetensors")
    return save(base, tmp_path / "base.safetensors"), paths[0], tmp_path / "moved.safetensors"


@pytest.mark.slow
def test_networks_are_aligned_to_the_base_and_merged(three: tuple[Path, Path, Path], tmp_path: Path) -> None:
    base, b, c = three
    out = tmp_path / "out.safetensors"
    done = deepalign(
        "merge", b, c, "--base", base, "--combine", "ties", "--weights", "1,1", "--density", "0.4",
        "-m", "weights", "-o", out, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["combine"] == "ties"

    start, first = tensors(base), tensors(b)
    second = tensors(tmp_path / "2.safetensors")  # as it was before its units were moved
    combine = COMBINERS["ties"].make((1, 1), {"density": 0.4})
    for name, w in tensors(out).items():
        assert torch.allclose(w, combine(name, [start[name], first[name], second[name]]), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--combine", "ties"], "--combine ties needs the base"),
        (["--combine", "linear", "--base", "BASE"], "--combine linear makes no use of --base"),
        (["--density", "0.3"], "--combine linear makes no use of --density"),
        (["--combine", "ties", "--base", "BASE", "--alpha", "0.3"], "--alpha is for two inputs"),
        (["--combine", "ties", "--base", "BASE", "--weights", "1,1,1"], "3 weights are given for 2 inputs"),
        (["--combine", "ties", "--base", "BASE", "--density", "1.5"], "density"),
    ],
)
def test_what_does_not_fit_is_refused(
    three: tuple[Path, Path, Path], options: list[str], message: str, tmp_path: Path
) -> None:
    base, b, c = three
    given = [str(base) if option == "BASE" else option for option in options]
    done = deepalign("merge", b, c, "-m", "weights", "-o", tmp_path / "x.safetensors", *given)

    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "x.safetensors").exists()
