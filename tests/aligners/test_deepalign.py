"""The learned aligner as a method: what holds whatever its network has learned."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners import sketched
from deepalign_cli.aligners.activations import ActivationMatching, total
from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.choice import Judge
from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.errors import UsageError
from deepalign_cli.network import strengths
from deepalign_cli.network.encoders import make_encoder
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import load_pretrained
from deepalign_cli.network.refiner import Refiner, RefinerConfig
from deepalign_cli.network.sketches import Sketches
from deepalign_cli.network.universal import Features
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation, Spec, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from tests.aligners.builders import mlp_run, planted, runner, trained
from tests.symmetry.builders import seeded

FAMILIES = ["named_mlp", "mlp_layernorm", "siren", "plain_cnn_bn", "vgg", "cifar_resnet", "resnet_bottleneck"]


class Counting(DeepAlign):
    """Counts the networks that it has encoded."""

    passes = 0

    def reader(self, graph: Graph, weights: Weights) -> Callable[[Sketches], Features]:
        self.passes += 1
        return super().reader(graph, weights)


@pytest.fixture
def network() -> Counting:
    """Small, and as it was initialised."""
    sizes = {"channels": 16, "hidden": 32, "sketch": 16, "sweeps": 2, "out": 32}
    return Counting(make_encoder(sizes)).requires_grad_(False).eval()


def cast(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {n: w.to(dtype) if w.is_floating_point() else w for n, w in weights.items()}


def same(g: Element, h: Element, symmetry: Symmetry) -> bool:
    return all(g.perm[group].equal(h.perm[group]) for group in symmetry.sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_planted_permutation_is_recovered_exactly(name: str, dtype: torch.dtype, network: Counting) -> None:
    symmetry, a, b, expected = planted(name)
    aligner: Aligner = LearnedAligner(network, "untrained", 4, "none")
    found = aligner(symmetry, cast(a, dtype), cast(b, dtype), rng=seeded(0))

    assert same(found.element, expected, symmetry)
    assert not same(found.element, symmetry.identity(), symmetry)
    assert found.method == "deepalign"
    assert found.distance_after == 0 < found.distance_before


@pytest.mark.parametrize("name", ["named_mlp", "vgg"])
def test_weights_that_overflow_float32_layer_by_layer_are_aligned_exactly(
    name: str, network: Counting
) -> None:
    symmetry, a, b, expected = planted(name)
    large = [cast({n: w * 1e12 for n, w in one.items()}, torch.float32) for one in (a, b)]
    for refine in ("none", "auto", "weights"):
        found = LearnedAligner(network, "untrained", 2, refine)(symmetry, *large, rng=seeded(0))
        assert same(found.element, expected, symmetry)
        assert found.distance_after == 0 < found.distance_before


def test_it_is_an_aligner_that_says_whose_prediction_it_is(network: Counting) -> None:
    symmetry, a, b = trained()
    aligner = LearnedAligner(network, "untrained", 3, "none")
    found = aligner(symmetry, a, b, rng=seeded(0))

    assert isinstance(aligner, Aligner)
    assert (found.details["network"], found.details["sketches"]) == ("untrained", 3)
    assert isinstance(found.details["kept"], str)
    assert isinstance(found.details["why"], str)
    assert isinstance(found.details["notes"], list)
    assert "\n" not in found.details["why"]
    assert found.seconds > 0


@pytest.mark.slow
def test_the_reference_is_encoded_once(network: Counting) -> None:
    symmetry, a, b, _ = planted("named_mlp")
    moving = [b, {n: 2 * w for n, w in b.items()}, {n: w + 1 for n, w in b.items()}]
    aligner = LearnedAligner(network, sketches=2, refine="none")
    for other in moving:
        aligner(symmetry, a, other, rng=seeded(0))
    assert network.passes == 1 + len(moving)

    aligner(symmetry, a, b, rng=seeded(1))  # other readings of the labels
    assert network.passes == 1 + len(moving) + 2
    aligner(symmetry, b, a, rng=seeded(1))  # another reference
    assert network.passes == 1 + len(moving) + 2 + 2


def test_the_same_seed_gives_the_same_element(network: Counting) -> None:
    symmetry, a, b = trained()
    found = [
        LearnedAligner(network, sketches=2, refine="none")(symmetry, a, b, rng=seeded(seed)).element
        for seed in (0, 0, 1)
    ]
    assert same(found[0], found[1], symmetry)
    assert not same(found[0], found[2], symmetry)  # unrelated to an untrained network: the seed decides


def test_what_is_kept_of_the_reference_changes_nothing(network: Counting) -> None:
    symmetry, a, b = trained()
    kept = LearnedAligner(network, sketches=2, refine="none")
    kept(symmetry, a, a, rng=seeded(0))
    fresh = LearnedAligner(network, sketches=2, refine="none")

    results = [aligner(symmetry, a, b, rng=seeded(0)) for aligner in (kept, fresh)]
    assert same(results[0].element, results[1].element, symmetry)


def test_units_that_move_carry_their_match_with_them(network: Counting) -> None:
    """Equivariance: aligner(a, h b) = aligner(a, b) h^-1."""
    symmetry, a, b = trained()
    h = symmetry.random(seeded(4))
    aligner = LearnedAligner(network, sketches=4, refine="none")
    one = aligner(symmetry, a, b, rng=seeded(0)).element
    two = aligner(symmetry, a, symmetry.apply(h, b), rng=seeded(0)).element

    assert same(two @ h, one, symmetry)


SHIPPED = load_pretrained()
BLIND = ["auto", "none", "weights", "prior"]
GROUPS = [
    ("named_mlp", None),
    ("tanh_mlp", "tanh"),
    ("siren", "sin"),
    ("plain_cnn", "relu"),
    ("cifar_resnet", None),
]


@pytest.mark.slow
@pytest.mark.parametrize("refine", BLIND)
@pytest.mark.parametrize(("name", "activation"), GROUPS)
def test_the_shipped_aligner_undoes_a_planted_element(name: str, activation: str | None, refine: str) -> None:
    symmetry, a, b, back = planted(name, Activation(activation) if activation else None, double=True)
    found = LearnedAligner(SHIPPED, "universal-v1", 2, refine)(symmetry, a, b, rng=seeded(0))
    assert found.distance_after < 1e-9 * found.distance_before
    assert all(torch.equal(p, back.perm[g]) for g, p in found.element.perm.items())


@pytest.mark.slow
@pytest.mark.parametrize("refine", BLIND)
def test_moved_units_are_followed_through_every_refinement(refine: str) -> None:
    symmetry, a, b = trained()
    a, b = ({n: w.double() for n, w in x.items()} for x in (a, b))
    h = symmetry.random(seeded(4))
    aligner = LearnedAligner(SHIPPED, "universal-v1", 4, refine)
    one = aligner(symmetry, a, b, rng=seeded(0)).element
    two = aligner(symmetry, a, symmetry.apply(h, b), rng=seeded(0)).element
    if refine != "weights":  # which also tries weight matching from the identity, wherever that is
        assert same(two @ h, one, symmetry)


@pytest.mark.slow
def test_weights_that_contradict_the_prediction_decide_and_the_user_is_told() -> None:
    # An aligner whose features are noise predicts nothing; the weights of a noisy relative tell it all.
    symmetry, a, b, back = planted("named_mlp", noise=0.6)

    class Noise(torch.nn.Module):
        config = None

        def forward(self, graph: Graph, weights: Weights, seeds: list[int]) -> Features:
            return {g: torch.randn(len(seeds), n, 8) for g, n in graph.symmetry.sizes.items()}

    found = LearnedAligner(DeepAlign(Noise()))(symmetry, a, b, rng=seeded(0))
    assert found.details["kept"] == "weights"
    assert found.details["notes"]
    assert all(torch.equal(p, back.perm[g]) for g, p in found.element.perm.items())


def test_a_noisy_copy_is_aligned_by_its_weights_and_never_encoded(network: Counting) -> None:
    symmetry, a, b, back = planted("named_mlp", noise=0.3)
    found = LearnedAligner(network)(symmetry, a, b, rng=seeded(0))
    assert (found.details["kept"], found.details["notes"], network.passes) == ("weights", [], 0)
    assert same(found.element, back, symmetry)


def test_a_prediction_that_leaves_b_farther_from_a_says_so(network: Counting) -> None:
    # Beside its sibling B is near A as it is; an untrained aligner's prediction moves it away.
    symmetry, a, _ = trained()
    b = {n: w + 0.3 * w.std() * torch.randn(w.shape, generator=seeded(5)) for n, w in a.items()}
    network.encoder.leave.weight.fill_(1.0)  # no unit is told from another
    found = LearnedAligner(network, refine="none")(symmetry, a, b, rng=seeded(0))
    assert found.distance_after > found.distance_before
    (note,) = found.details["notes"]  # type: ignore[misc]
    assert "farther from A" in note


@pytest.mark.slow
def test_wide_networks_are_read_a_sketch_at_a_time_in_half_precision(
    network: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    symmetry, a, b = trained()
    aligner = LearnedAligner(network, sketches=4, refine="prior")
    network.refiner = Refiner(RefinerConfig())
    expected = aligner.similarity(symmetry, a, b, seeded(0))
    for name in ("_UNITS_AT_ONCE", "_MOST_UNITS", "_MOST_KEPT"):
        monkeypatch.setattr(sketched, name, 0)
    monkeypatch.setattr(strengths, "_MOST_KEPT", 0)
    aligner = LearnedAligner(network, sketches=4, refine="prior")
    similar = aligner.similarity(symmetry, a, b, seeded(0))
    for g, s in expected.items():
        assert similar[g] is not similar[g]
        assert s.dtype == similar[g].dtype
        assert torch.allclose(s, similar[g], atol=2e-3)
    assert aligner(symmetry, a, b, rng=seeded(0)).element.perm.keys() == symmetry.sizes.keys()


@pytest.mark.slow
def test_a_judge_with_data_has_the_last_word(network: Counting) -> None:
    symmetry, a, b = trained()
    asked: list[Element] = []

    def judge(element: Element) -> float:
        asked.append(element)
        return -float(len(asked))

    found = LearnedAligner(network, judge=judge)(symmetry, a, b, rng=seeded(0))
    assert len(asked) == 3
    assert found.details["kept"] == "weights"


def test_a_network_without_groups_stays_as_it_is(network: Counting) -> None:
    symmetry = Symmetry(Spec({}), {"weight": (3, 4)})
    w = {"weight": torch.randn(3, 4)}
    found = LearnedAligner(network)(symmetry, w, {"weight": torch.randn(3, 4)}, rng=seeded(0))
    assert found.element.perm == {}


@pytest.mark.slow
def test_a_single_unit_has_nowhere_to_go(network: Counting) -> None:
    symmetry = Symmetry(
        parse_spec('[axes]\n"a.weight" = "h 3"\n"b.weight" = "2 h"'), {"a.weight": (1, 3), "b.weight": (2, 1)}
    )
    w = {"a.weight": torch.randn(1, 3), "b.weight": torch.randn(2, 1)}
    for refine in BLIND:
        found = LearnedAligner(SHIPPED, refine=refine)(symmetry, w, w, rng=seeded(0))
        assert torch.equal(found.element.perm["h"], torch.tensor([0]))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "activation"), GROUPS)
def test_activations_beside_the_shipped_aligner_undo_a_planted_element(
    name: str, activation: str | None
) -> None:
    symmetry, a, b, back = planted(name, Activation(activation) if activation else None, double=True)
    run, shape = runner(name)
    x = torch.randn(64, *shape, generator=seeded(3))
    evidence = Evidence(run, lambda: [x])
    for refine, kept in (("activations", "activations"), ("auto", "dual")):
        aligner = LearnedAligner(SHIPPED, sketches=2, refine=refine, evidence=evidence)
        found = aligner(symmetry, a, b, rng=seeded(0))
        assert found.details["kept"] == kept
        assert found.distance_after < 1e-9 * found.distance_before
        assert all(torch.equal(p, back.perm[g]) for g, p in found.element.perm.items())


def test_activations_raise_the_correlation_of_what_is_matched() -> None:
    symmetry, a, b = trained()
    x = torch.randn(200, 12, generator=seeded(3))
    evidence = Evidence(mlp_run, lambda: [x])
    found = [
        LearnedAligner(SHIPPED, sketches=4, refine=refine, evidence=evidence)(
            symmetry, a, b, rng=seeded(0)
        ).element
        for refine in ("none", "activations")
    ]
    correlations = evidence.correlations(symmetry, a, b)
    assert total(correlations, found[1]) > total(correlations, found[0])


@pytest.mark.slow
def test_with_evidence_the_judge_is_made_for_the_pair_and_data_are_read_once(network: Counting) -> None:
    symmetry, a, b = trained()
    reads: list[int] = []
    asked: list[Element] = []

    def batches() -> list[Tensor]:
        reads.append(1)
        return [torch.randn(60, 12, generator=seeded(3))]

    def judging(of: Symmetry, reference: Weights, moving: Weights) -> Judge:
        assert of is symmetry
        assert reference is a
        assert moving is b

        def judge(element: Element) -> float:
            asked.append(element)
            return -float(len(asked) == 4)

        return judge

    evidence = Evidence(mlp_run, batches, judging)
    found = LearnedAligner(network, evidence=evidence)(symmetry, a, b, rng=seeded(0))
    assert len(asked) == 7
    assert found.details["kept"] == "activations"
    assert len(reads) == 1


@pytest.mark.slow
def test_without_the_prediction_it_is_activation_matching_itself(network: Counting) -> None:
    symmetry, a, b = trained()
    x = torch.randn(200, 12, generator=seeded(3))

    def judging(symmetry: Symmetry, reference: Weights, moving: Weights) -> Judge:
        losses = iter([7.0, 6.0, 5.0, 4.0, 3.0, 1.0, 2.0])
        return lambda element: next(losses)

    evidence = Evidence(mlp_run, lambda: [x], judging)
    found = LearnedAligner(network, evidence=evidence)(symmetry, a, b, rng=seeded(0))
    assert found.details["kept"] == "activations alone"
    expected = ActivationMatching(evidence)(symmetry, a, b, rng=seeded(0))
    assert same(found.element, expected.element, symmetry)


def test_activations_without_data_are_a_usage_error(network: Counting) -> None:
    with pytest.raises(UsageError, match="needs data") as caught:
        LearnedAligner(network, refine="activations")
    assert "--data" in caught.value.hint
