"""Every family, every kind: an element of the group leaves the function unchanged, in float64."""

from __future__ import annotations

import pytest
import torch

from deepalign_cli.symmetry.families import FAMILIES
from deepalign_cli.symmetry.kinds import SCALE, SIGN
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Activation
from tests import nets
from tests.symmetry.builders import CASES, HEADS, family_spec, outputs_change, shapes_of

SMOOTH = {"mlp_gelu", "tanh_mlp", "siren", "vision_transformer"}


@pytest.mark.parametrize("name", CASES)
def test_permutations_leave_the_function_unchanged(name: str) -> None:
    module, shape = CASES[name]()
    spec = family_spec(module)
    assert spec.groups()
    assert outputs_change(module, shape, spec) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_heads_move_as_blocks_where_their_number_is_known(name: str) -> None:
    module, shape = CASES[name]()
    spec = family_spec(module, heads=4)
    assert sum("heads" in group for group in spec.groups()) == 2
    assert outputs_change(module, shape, spec) <= 1e-12
    with pytest.raises(AssertionError):  # the number matters: blocks of another size are no symmetry
        assert outputs_change(module, shape, family_spec(module, heads=8)) <= 1e-3


@pytest.mark.parametrize("name", [name for name in CASES if name not in SMOOTH])
def test_scales_of_relu_units_leave_the_function_unchanged(name: str) -> None:
    module, shape = CASES[name]()
    activation = Activation.LEAKY_RELU if "leaky" in name else Activation.RELU
    spec = family_spec(module, HEADS.get(name)).with_activation(activation)
    assert SCALE in spec.kinds.values()
    assert outputs_change(module, shape, spec) <= 1e-12


@pytest.mark.parametrize(
    ("module", "width", "activation"),
    [
        (nets.tanh_mlp(), 10, Activation.TANH),
        (nets.mlp((12, 16, 20, 5), "tanh", norm="batch"), 12, Activation.TANH),
        (nets.mlp((12, 16, 20, 5), "tanh", norm="layer"), 12, Activation.TANH),
        (nets.mlp((12, 16, 20, 5), "sin"), 12, Activation.SIN),
        (nets.siren(w0=3.0), 2, Activation.SIN),
    ],
    ids=["tanh", "tanh_batchnorm", "tanh_layernorm", "sin", "siren"],
)
def test_signs_of_odd_units_leave_the_function_unchanged(
    module: torch.nn.Module, width: int, activation: Activation
) -> None:
    spec = family_spec(module).with_activation(activation)
    assert set(spec.kinds.values()) == {SIGN}
    assert outputs_change(module, (width,), spec) <= 1e-12


def test_a_wrong_activation_is_no_symmetry() -> None:
    spec = family_spec(nets.mlp()).with_activation(Activation.TANH)
    assert outputs_change(nets.mlp(), (12,), spec) > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_the_names_does_not_matter(name: str) -> None:
    shapes = shapes_of(CASES[name]()[0].state_dict())
    natural = family_spec(CASES[name]()[0], HEADS.get(name))
    for seed in range(3):
        order = torch.randperm(len(shapes), generator=torch.Generator().manual_seed(seed))
        shuffled = {n: shapes[n] for n in (list(shapes)[i] for i in order)}
        layout = Layout(shuffled, HEADS.get(name))
        spec = next(s for match in FAMILIES if (s := match(layout)) is not None)
        assert dict(spec.axes) == dict(natural.axes)
        assert spec.pooled == natural.pooled


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_of_a_unit_is_in_the_spec(name: str) -> None:
    module, _ = CASES[name]()
    spec = family_spec(module, HEADS.get(name))
    still = {
        n
        for n in module.state_dict()
        if not any(True for axis in spec.axes.get(n, ()) for _ in axis.groups())
    }
    last = list(module.state_dict())[-1]
    assert all(n == last or n.endswith("num_batches_tracked") for n in still)
