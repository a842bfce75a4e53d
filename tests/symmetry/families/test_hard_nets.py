"""What a file decides is read and exact; what it does not is refused, or named in an assumption."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.families import first_match
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry import hard_nets
from tests.symmetry.builders import generic, seeded, shapes_of


def read(net: nn.Module) -> Spec | None:
    """The spec by names and shapes, which must not depend on the order in the file."""
    shapes = shapes_of(net.state_dict())
    spec = first_match(Layout(shapes, ordered=True))
    by_name = first_match(Layout({name: shapes[name] for name in sorted(shapes)}))
    assert spec == by_name
    return spec


def change(net: nn.Module, inputs: Tensor, spec: Spec) -> float:
    """The most that random elements change the outputs in float64, relative to their largest."""
    net = net.double().eval()
    weights = generic(net, 3)
    symmetry, worst = Symmetry(spec, shapes_of(weights)), 0.0
    with torch.no_grad():
        before = net(inputs)
        for seed in range(3):
            net.load_state_dict(symmetry.apply(symmetry.random(seeded(seed)), weights))
            worst = max(worst, float((net(inputs) - before).abs().max() / before.abs().max()))
    return worst


@pytest.mark.parametrize("name", hard_nets.EXACT)
def test_what_is_decidable_is_read(name: str) -> None:
    make, inputs = hard_nets.EXACT[name]
    spec = read(make())
    assert spec is not None
    assert spec.groups()
    assert change(make(), inputs(), spec) <= 1e-10


@pytest.mark.parametrize("name", hard_nets.REFUSED)
def test_what_has_two_readings_is_refused(name: str) -> None:
    make, words = hard_nets.REFUSED[name]
    with pytest.raises(SpecError, match=re.escape(words)) as caught:
        read(make())
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", hard_nets.SAID)
def test_what_only_running_shows_is_named(name: str) -> None:
    make, inputs, words = hard_nets.SAID[name]
    spec = read(make())
    assert spec is not None
    assert change(make(), inputs(), spec) > 1e-3  # else it would be no trap
    assert [line for line in spec.assumptions if words in line]


@pytest.mark.parametrize("make", [lambda: hard_nets.resnet(2), lambda: hard_nets.resnet(3)])
def test_a_residual_network_with_norms_takes_nothing_for_granted(make: Callable[[], nn.Module]) -> None:
    spec = read(make())
    assert spec is not None
    assert spec.assumptions == ()


def test_within_one_sequential_no_skip_is_spoken_of() -> None:
    spec = read(hard_nets.mlp(10, 10, 10, 10, 3))
    assert spec is not None
    assert not [line for line in spec.assumptions if "skip" in line]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: hard_nets.Encoder(positions=False), "no table of positions"),
        (lambda: hard_nets.Encoder(positions=True, places=5), r"'fc\.weight' \[3, 80\] may read several"),
    ],
)
def test_an_encoders_stream_that_stays_says_why(make: Callable[[], nn.Module], why: str) -> None:
    spec = read(make())
    assert spec is not None
    assert "stream" not in spec.groups()
    assert re.search(f"the residual stream stays in place: {why}", spec.stays[0])


def test_parts_that_are_alike_are_spoken_of_once() -> None:
    make, _ = hard_nets.EXACT["experts and their gate"]
    spec = read(make())
    assert spec is not None
    assert len(spec.assumptions) == 1
    assert spec.assumptions[0].endswith("likewise in 'experts.1', 'experts.2'")
    assert spec.groups() == ("experts.0.0", "experts.1.0", "experts.2.0")
