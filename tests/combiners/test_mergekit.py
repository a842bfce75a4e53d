"""The numbers of mergekit 0.1.5 on one tensor, as `benchmarks/mergekit_parity.py` has it make them.

That script compares whole networks; `mergekit.safetensors` is a sample that it wrote. Its metadata say for
every merge which networks it is of, whether there is a base, and what deepalign is called with.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from deepalign_cli.combiners.table import COMBINERS

_FILE = Path(__file__).with_name("mergekit.safetensors")
with safe_open(_FILE, "pt") as opened:
    HOW: dict[str, str] = opened.metadata()


def given(words: str) -> tuple[list[str], str, dict[str, str]]:
    """The inputs, the combiner and its options as they were typed."""
    networks, base, *options = words.split()
    typed = dict(zip(options[::2], options[1::2], strict=True))
    inputs = [*(["base"] if base == "base" else []), *networks.split(",")]
    return inputs, typed.pop("--combine"), typed


@pytest.mark.parametrize("case", sorted(HOW))
def test_the_numbers_are_mergekits(case: str) -> None:
    inputs, name, typed = given(HOW[case])
    row, count = COMBINERS[name], len(inputs) - (inputs[0] == "base")
    weights = [float(x) for x in typed.get("--weights", "").split(",") if x] or row.equal(count)
    if "--alpha" in typed:
        weights = [1 - float(typed["--alpha"]), float(typed["--alpha"])]
    options = {p.name: p.read(typed[p.option]) for p in row.parameters if p.option in typed}
    with safe_open(_FILE, "pt") as file:
        tensors: list[Tensor] = [file.get_tensor(name) for name in inputs]
        expected = file.get_tensor(case)
    merged = row.make(weights, options)("w", tensors)
    assert merged.dtype == torch.float32
    assert float((merged - expected).abs().max()) <= 1e-6


def test_every_combiner_has_a_case_and_each_merge_did_something() -> None:
    assert {given(words)[1] for words in HOW.values()} == set(list(COMBINERS)[:14])
    with safe_open(_FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    for case in HOW:
        assert all(not torch.allclose(tensors[case], tensors[name], atol=1e-4) for name in ("base", "b", "c"))
