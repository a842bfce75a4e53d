"""Matching by weights and activations at once."""

from __future__ import annotations

import pytest
import torch

from deepalign_cli.aligners.activations import ActivationMatching, total
from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.dual import DualMatching
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.errors import UsageError
from deepalign_cli.symmetry.spec import Activation
from tests.aligners.builders import inner_product, mlp_run, planted, runner, trained
from tests.symmetry.builders import same_element, seeded


@pytest.mark.parametrize(
    ("name", "activation"),
    [("tanh_mlp", "tanh"), ("siren", "sin"), ("named_mlp", "relu"), ("plain_cnn_bn", None), ("vgg", "relu")],
)
def test_a_planted_element_is_undone(name: str, activation: str | None) -> None:
    symmetry, a, b, back = planted(name, Activation(activation) if activation else None, double=True)
    run, shape = runner(name)
    x = torch.randn(64, *shape, generator=seeded(3))
    found = DualMatching(Evidence(run, lambda: x.split(40)))(symmetry, a, b, rng=seeded(0))
    assert same_element(found.element, back, rtol=1e-6)
    assert found.details == {"samples": 64, "unread": [], "share": 0.5}
    assert found.method == "dual"


def test_the_share_goes_from_weights_to_activations() -> None:
    symmetry, a, b = trained()
    x = torch.randn(300, 12, generator=seeded(3))
    evidence = Evidence(mlp_run, lambda: [x])
    known = evidence.correlations(symmetry, a, b)
    methods = [DualMatching(evidence, share) for share in (0.001, 0.5, 0.999)]
    assert all(isinstance(method, Aligner) for method in methods)
    found = [method(symmetry, a, b, rng=seeded(0)).element for method in methods]

    correlated = [total(known, g) for g in found]
    assert correlated == sorted(correlated)
    assert correlated[0] < correlated[-1]
    weights = [inner_product(symmetry, a, b, g) for g in found]
    assert weights == sorted(weights, reverse=True)
    alone = ActivationMatching(evidence)(symmetry, a, b, rng=seeded(0)).element
    assert correlated[-1] == pytest.approx(total(known, alone), rel=1e-3)
    by_weights = WeightMatching()(symmetry, a, b, rng=seeded(0)).element
    assert weights[0] > 0.9 * inner_product(symmetry, a, b, by_weights)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_that_leaves_one_out_is_an_error(share: float) -> None:
    with pytest.raises(UsageError, match="leaves nothing to mix"):
        DualMatching(Evidence(mlp_run, list), share)
