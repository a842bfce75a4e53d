import math
from itertools import pairwise

import pytest
import torch

from deepalign_cli.data.dataset import Data, Part
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.errors import MismatchError
from deepalign_cli.measure.losses import MeanSquare
from deepalign_cli.measure.plane import Plane, measure_landscape


def net(*values: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(values), "step": torch.tensor(7), "bn.running_mean": torch.tensor([9.0])}


def test_distances_in_the_plane_are_weight_distances() -> None:
    torch.manual_seed(1)
    a, b, c = (net(*torch.randn(5).tolist()) for _ in range(3))
    plane = Plane.through(a, b, c)
    places = [(0.0, 0.0), (plane.side, 0.0), plane.apex]

    for first, one in zip(places, (a, b, c), strict=True):
        for second, other in zip(places, (a, b, c), strict=True):
            apart = float((one["w"] - other["w"]).norm())
            assert math.dist(first, second) == pytest.approx(apart, rel=1e-5, abs=1e-6)


def test_the_corners_are_the_networks() -> None:
    a, b, c = net(0.0, 1.0, 2.0), net(3.0, 1.0, -1.0), net(0.5, 4.0, 0.0)
    plane = Plane.through(a, b, c)

    for place, corner in zip([(0.0, 0.0), (plane.side, 0.0), plane.apex], (a, b, c), strict=True):
        found = plane.weights(*place)
        torch.testing.assert_close(found["w"], corner["w"])
        assert found["step"] == 7


@pytest.mark.parametrize("third", [(2.0, 0.0), (0.0, 0.0), (-1.0, 0.0)])
def test_three_networks_on_a_line_span_no_plane(third: tuple[float, float]) -> None:
    with pytest.raises(MismatchError, match="one line"):
        Plane.through(net(0.0, 0.0), net(1.0, 0.0), net(*third))


def test_the_grid_encloses_the_networks_with_even_steps() -> None:
    plane = Plane.through(net(0.0, 0.0), net(3.0, 0.0), net(-1.0, 2.0))

    xs, ys = plane.grid(11)

    assert xs[0] < -1
    assert xs[-1] > 3
    assert ys[0] < 0
    assert ys[-1] > 2
    assert max(len(xs), len(ys)) == 11
    steps = [b - a for axis in (xs, ys) for a, b in pairwise(axis)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_losses_are_those_of_the_networks_on_the_plane() -> None:
    a, b, c = net(0.0, 0.0), net(2.0, 0.0), net(0.0, 1.0)
    x, y = torch.randn(6, 2), torch.zeros(6)
    data = Data("made", "", {"": Part(x, y)}, torch.arange(6), Preparation())
    plane = Plane.through(a, b, c)

    found = measure_landscape(
        lambda weights, x: x @ weights["w"], plane, ("A", "B", "C"), data, MeanSquare(), 5,
        paths=[("A", "B")],
    )  # fmt: skip

    for i, py in enumerate(found.ys):
        for j, px in enumerate(found.xs):
            loss = float((x @ torch.tensor([px, py])).square().mean())
            assert float(found.losses[i, j]) == pytest.approx(loss, rel=1e-5)
    assert found.places == {"A": (0.0, 0.0), "B": (2.0, 0.0), "C": (0.0, 1.0)}
    assert found.accuracies is None
