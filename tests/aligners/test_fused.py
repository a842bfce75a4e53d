"""Every method on specs with parentheses, and with signs and scales at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from deepalign_cli.aligners.activations import ActivationMatching
from deepalign_cli.aligners.alignment import Aligner, Alignment
from deepalign_cli.aligners.canonical import canonical_scales
from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.dual import DualMatching
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.gains import Gains, update
from deepalign_cli.aligners.sinkhorn import SinkhornRebasin
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.measure.paths import mix
from deepalign_cli.models.run import Run
from deepalign_cli.network.encoders import make_encoder
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from tests.aligners.builders import residual
from tests.symmetry.builders import same_element, seeded
from tests.symmetry.fused import FUSED, fused, fused_case

Planted = tuple[Symmetry, dict[str, Tensor], dict[str, Tensor], Element]


def planted(name: str) -> Planted:
    """A network, its image under a random element, and the element's inverse."""
    symmetry, a = fused_case(name)
    g = symmetry.random(seeded(1))
    assert any(bool((s < 0).any() and (s.abs() != 1).any()) for s in g.scale.values())
    return symmetry, a, symmetry.apply(g, a), g.inverse()


class Task:
    """A network to run, examples, and as the loss how far the outputs are from the reference's."""

    def __init__(self, name: str, reference: Weights) -> None:
        module, _, shape = fused(name)
        self.run: Run = lambda w, x: functional_call(module, dict(w), (x,))
        self.x = torch.randn(64, *shape, generator=seeded(3), dtype=torch.float64)
        with torch.no_grad():
            self.wanted = self.run(reference, self.x)

    def __len__(self) -> int:
        return len(self.x)

    def __call__(self, weights: Weights, places: Tensor) -> Tensor:
        # Running statistics are no parameters.
        fixed = {n: w.detach() if "running" in n else w for n, w in weights.items()}
        return (self.run(fixed, self.x[places]) - self.wanted[places]).square().mean()

    @property
    def evidence(self) -> Evidence:
        def judging(symmetry: Symmetry, a: Weights, b: Weights):  # type: ignore[no-untyped-def]
            return lambda g: float(self(mix(a, symmetry.apply(g, b), 0.5), torch.arange(len(self))).detach())

        return Evidence(self.run, lambda: [self.x], judging, self)


def aligned(method: Aligner, pair: Planted) -> Alignment:
    return method(*pair[:3], rng=seeded(0))


@pytest.mark.parametrize("name", FUSED)
def test_planted_signs_scales_and_orders_are_recovered_from_weights(name: str) -> None:
    pair = planted(name)
    found = aligned(WeightMatching(), pair)
    assert same_element(found.element, pair[3], rtol=1e-9)
    assert residual(*pair[:3], found.element) < 1e-9
    assert found.distance_after < 1e-9 * found.distance_before


@pytest.mark.parametrize("name", FUSED)
def test_canonical_scales_are_magnitudes(name: str) -> None:
    symmetry, a, b, _ = planted(name)
    one, two = (canonical_scales(symmetry, w) for w in (a, b))
    assert one.scale
    assert all(bool((s > 0).all()) for g in (one, two) for s in g.scale.values())
    sizes = [
        sorted(float(w.abs().sum()) for w in symmetry.apply(g, x).values()) for g, x in ((one, a), (two, b))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-9)


@pytest.mark.parametrize("method", [ActivationMatching, DualMatching])
@pytest.mark.parametrize("name", FUSED)
def test_methods_that_look_at_data_recover_them_too(name: str, method: type[ActivationMatching]) -> None:
    pair = planted(name)
    task = Task(name, pair[1])
    found = aligned(method(task.evidence), pair)
    if name != "by head":  # whose heads are correlated before the order of the values in them is known
        assert same_element(found.element, pair[3], rtol=1e-6)
    with torch.no_grad():
        outputs = task.run(found.apply(pair[2]), task.x)
    assert torch.allclose(outputs, task.wanted, rtol=1e-10, atol=1e-10)
    assert found.distance_after < found.distance_before


@pytest.mark.slow
@pytest.mark.parametrize("refine", ["prior"])
@pytest.mark.parametrize("name", FUSED)
def test_the_learned_aligner_reads_them(name: str, refine: str) -> None:
    sizes = {"channels": 16, "hidden": 32, "sketch": 16, "sweeps": 2, "out": 32}
    network = DeepAlign(make_encoder(sizes)).requires_grad_(False).eval()
    pair = planted(name)
    found = aligned(LearnedAligner(network, refine=refine), pair)
    assert same_element(found.element, pair[3], rtol=1e-6)


@pytest.mark.parametrize("name", FUSED)
def test_sinkhorn_trains_soft_permutations_of_them(name: str) -> None:
    pair = planted(name)
    task = Task(name, pair[1])
    found = aligned(SinkhornRebasin(task.evidence, steps=5, start="scratch"), pair)
    losses = [found.details[f"midpoint_loss_{when}"] for when in ("before", "after")]
    assert losses[1] <= losses[0]  # type: ignore[operator]
    assert len(found.objective) == 5
    assert all(0 < loss < float("inf") for loss in found.objective)


def test_gains_beside_gathered_blocks_are_updated_as_they_are_computed_afresh() -> None:
    symmetry, a = fused_case("by head")
    b = fused_case("by head", seed=1)[1]
    problem, updated = Gains(symmetry, a, b), 0
    for group in symmetry.sizes:
        g = symmetry.identity()
        kept = problem.partial(group, g, problem.names[group])
        swapped = {h: torch.tensor([1, 0, *range(2, n)]) for h, n in symmetry.sizes.items()}
        moved = Element(g.perm | swapped)
        fresh = problem.partial(group, moved, problem.names[group])
        if (found := update(problem, group, kept, moved)) is not None:
            assert torch.allclose(found.plain, fresh.plain)
            updated += 1
    assert updated < len(symmetry.sizes)  # a tensor with several blocks on an axis is computed afresh
