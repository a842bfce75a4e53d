"""A random element of every fused spec leaves its network's outputs alone, signs and scales at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deepalign_cli.symmetry.kinds import PERMUTATION, SCALE, SIGN, SIGNED_SCALE, Kind
from tests.symmetry.builders import outputs_change
from tests.symmetry.fused import FUSED, fused


@pytest.mark.parametrize("kind", [PERMUTATION, SIGN, SCALE, SIGNED_SCALE], ids=str)
@pytest.mark.parametrize("name", FUSED)
def test_a_random_element_leaves_the_outputs_alone(name: str, kind: Kind) -> None:
    module, spec, shape = fused(name)
    spec = replace(spec, kinds={}).with_kinds(scale=kind.stretches, sign=kind.turns)
    assert (kind in spec.kinds.values()) is kind.multiplies
    assert outputs_change(module, shape, spec) < 1e-12


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("by head", "h*(~+e|~-e|~+v) r", "(~+e|~-e|~+v)*h r"),
        ("by head", "r h*~-v", "r h*-v"),
        ("conv and norm", '"~+k"', '"+k"'),
        ("conv and norm", '"+k"', '"~+k"'),
        ("linear", "4 ~-k", "4 ~+k"),
    ],
)
def test_a_wrong_mark_or_order_changes_them(name: str, right: str, wrong: str) -> None:
    module, spec, shape = fused(name)
    changed = spec.parse(str(spec).replace(right, wrong))
    assert changed != spec
    assert outputs_change(module, shape, changed) > 1e-3
