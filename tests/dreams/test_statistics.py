import pytest
import torch

from deepalign_cli.dreams import statistics
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
