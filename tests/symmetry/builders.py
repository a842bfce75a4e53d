"""What several tests of symmetries and aligners share: specs of whole networks, and planted pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.families import FAMILIES
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Activation, Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests import nets

CASES = {name: make for name, make in nets.ALL.items() if name != "resnet_option_a"}
HEADS = {name: 4 for name in CASES if "transformer" in name}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shapes_of(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(w.shape) for name, w in weights.items()}


def family_spec(module: nn.Module, heads: int | None = None) -> Spec:
    layout = Layout(shapes_of(module.state_dict()), heads)
    return next(spec for match in FAMILIES if (spec := match(layout)) is not None)


def generic(module: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """The weights of `module` after every entry has been given a generic value."""
    nets.randomise_(module, seeded(seed))
    return {name: w.clone() for name, w in module.state_dict().items()}


def case(
    name: str, activation: Activation | None = None, seed: int = 0
) -> tuple[Symmetry, dict[str, Tensor]]:
    """A network of the zoo: its symmetry and generic weights."""
    module, _ = CASES[name]()
    weights = generic(module, seed)
    spec = family_spec(module, HEADS.get(name)).with_activation(activation)
    return Symmetry(spec, shapes_of(weights)), weights


def outputs_change(module: nn.Module, shape: tuple[int, ...], spec: Spec) -> float:
    """By how much a random element changes the outputs in float64, relative to their largest."""
    module = module.double().eval()
    weights = generic(module, 3)
    symmetry = Symmetry(spec, shapes_of(weights))
    inputs = torch.randn(4, *shape, generator=seeded(4), dtype=torch.float64)
    g = symmetry.random(seeded(5))
    assert all(g.moved(group) for group, size in symmetry.sizes.items() if size > 3)
    with torch.no_grad():
        before = module(inputs)
        module.load_state_dict(symmetry.apply(g, weights))
        after = module(inputs)
    return float((after - before).abs().max() / before.abs().max())


def same_element(one: Element, other: Element, rtol: float = 0.0) -> bool:
    """Whether two elements that name the same groups are equal, scales up to `rtol`."""
    return (
        one.perm.keys() == other.perm.keys()
        and one.scale.keys() == other.scale.keys()
        and all(torch.equal(p, other.perm[g]) for g, p in one.perm.items())
        and all(torch.allclose(s, other.scale[g], rtol=rtol, atol=0.0) for g, s in one.scale.items())
    )
