import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.dreams import statistics
from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.dreams.noise import pink_noise
from deepalign_cli.dreams.statistics import Remembering, dream_of_statistics, norms_in
from tests.dreams.networks import DESIGN, images, pair


def test_what_a_network_was_trained_on_is_what_it_remembers() -> None:
    network = Remembering(pair().networks[0])

    assert float(network.mismatch(DESIGN, images())) < 1e-4
    assert float(network.mismatch(DESIGN, torch.randn(400, 1, 8, 8))) > 0.1


def test_norms_are_counted() -> None:
    assert norms_in(pair()) == 2


def test_dreams_are_nearer_to_the_memory_of_all_networks_than_noise_is() -> None:
    ensemble = pair()
    start = pink_noise((1, 8, 8), 64, torch.Generator().manual_seed(0))

    x = dream_of_statistics(ensemble, start, 40)

    for weights in ensemble.networks:
        network = Remembering(weights)
        before, after = (float(network.mismatch(DESIGN, one).detach()) for one in (start, x))
        assert after < before / 10


def test_networks_are_left_as_they_are() -> None:
    ensemble = pair()
    before = {name: w.clone() for name, w in ensemble.networks[0].items()}

    dream_of_statistics(ensemble, torch.randn(8, 1, 8, 8), 2)

    assert all(torch.equal(before[name], w) for name, w in ensemble.networks[0].items())
    assert not any(w.requires_grad for w in ensemble.networks[0].values())


def test_dreams_in_halves_are_as_near_to_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = pair()
    start = pink_noise((1, 8, 8), 64, torch.Generator().manual_seed(0))
    left = []
    for halves in (False, True):
        monkeypatch.setattr(statistics, "multiplies_halves", lambda halves=halves: halves)
        x = dream_of_statistics(ensemble, start, 30)
        monkeypatch.setattr(statistics, "multiplies_halves", lambda: False)
        left.append(sum(float(Remembering(w).mismatch(DESIGN, x).detach()) for w in ensemble.networks))

    assert x.dtype is torch.float32
    assert left[1] == pytest.approx(left[0], rel=0.3)
    assert left[1] != left[0]


def test_haste_changes_the_direction_little() -> None:
    weights, slopes, losses = pair().networks[0], [], []
    for haste in (False, True):
        x = pink_noise((1, 8, 8), 64, torch.Generator().manual_seed(0)).requires_grad_()
        loss = Remembering(weights, haste=haste).mismatch(DESIGN, x + 0)
        torch.autograd.backward(loss)
        assert x.grad is not None
        slopes.append(x.grad.flatten())
        losses.append(float(loss.detach()))

    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert losses[1] != losses[0]
    assert float(functional.cosine_similarity(*slopes, dim=0)) > 0.98


def test_double_precision_stays_double_in_haste() -> None:
    weights = {name: w.double() for name, w in pair().networks[0].items()}
    x = images(64).double()
    plain, hasty = (Remembering(weights, haste=haste).mismatch(DESIGN, x) for haste in (False, True))
    assert hasty.dtype is torch.float64
    assert float(hasty) == pytest.approx(float(plain), rel=1e-10)


def viewing(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """A network that takes what a convolution gives for contiguous."""
    x = functional.conv2d(x, weights["conv.weight"], padding=1)
    x = x.view(len(x), -1)
    return functional.batch_norm(x, weights["mean"], weights["var"])


def test_a_network_that_takes_tensors_for_contiguous_dreams_without_haste(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "multiplies_halves", lambda: True)
    weights = {
        "conv.weight": torch.randn(3, 1, 3, 3),
        "mean": torch.ones(192),
        "var": torch.full((192,), 4.0),
    }
    ensemble = Ensemble(viewing, [weights], torch.zeros(2, 1, 8, 8))
    start = torch.randn(32, 1, 8, 8)

    x = dream_of_statistics(ensemble, start, 20)

    before, after = (float(Remembering(weights).mismatch(viewing, y).detach()) for y in (start, x))
    assert after < before / 2
