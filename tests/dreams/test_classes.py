import torch

from deepalign_cli.dreams.classes import dream_of_classes
from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.models.designs.mlp import MLP


def test_all_networks_see_what_they_dream_alike() -> None:
    design = MLP((20, 30, 4))
    rng = torch.Generator().manual_seed(0)
    networks = [{name: 3 * w for name, w in design.init(rng).items()} for _ in range(2)]
    ensemble = Ensemble(design, networks, torch.zeros(2, 20))
    start = torch.randn(40, 20, generator=rng)

    x = dream_of_classes(ensemble, start, 60, rng)

    before, after = ([out.softmax(1) for out in ensemble.outputs(one)] for one in (start, x))
    assert (after[0] - after[1]).abs().sum(1).mean() < 0.2 < 1 < (before[0] - before[1]).abs().sum(1).mean()
    assert (after[0].argmax(1) == after[1].argmax(1)).float().mean() > 0.9
    assert set(after[0].argmax(1).tolist()) == {0, 1, 2, 3}
    assert 0.6 < after[0].amax(1).mean() < 0.8  # of the first of two classes
    assert after[0].topk(2)[0].sum(1).mean() > 0.95
