"""Every family: a random element of its group leaves the function unchanged, in float64."""

from __future__ import annotations

import pytest
import torch

from deepalign_cli.symmetry.families import FAMILIES
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec, format_spec, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests import nets


def family_spec(module: torch.nn.Module, heads: int | None = None) -> Spec:
    shapes = {name: tuple(w.shape) for name, w in module.state_dict().items()}
    return next(spec for match in FAMILIES if (spec := match(Layout(shapes, heads))) is not None)


def outputs_change(module: torch.nn.Module, shape: tuple[int, ...], spec: Spec) -> float:
    module = module.double().eval()
    generator = torch.Generator().manual_seed(3)
    nets.randomise_(module, generator)
    weights = module.state_dict()
    symmetry = Symmetry(spec, {name: tuple(w.shape) for name, w in weights.items()})
    inputs = torch.randn(4, *shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        before = module(inputs)
        g = symmetry.random(generator)
        assert all(g.moved(group) for group, size in symmetry.sizes.items() if size > 3)
        module.load_state_dict(symmetry.apply(g, weights))
        after = module(inputs)
    return float((after - before).abs().max() / before.abs().max())


CASES = {k: v for k, v in nets.ALL.items() if "option_a" not in k}
HEADS = {name: 4 for name in CASES if "transformer" in name}


@pytest.mark.parametrize("name", CASES)
def test_a_random_permutation_leaves_the_function_unchanged(name: str) -> None:
    module, shape = CASES[name]()
    spec = family_spec(module)
    assert spec.groups()
    assert outputs_change(module, shape, spec) <= 1e-12


@pytest.mark.parametrize("name", CASES)
def test_the_spec_survives_toml(name: str) -> None:
    spec = family_spec(CASES[name]()[0])
    assert dict(parse_spec(format_spec(spec)).axes) == dict(spec.axes)
