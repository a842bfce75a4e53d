import torch

from deepalign_cli.dreams.classes import dream_of_classes
from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.models.designs.mlp import MLP


def test_all_networks_are_sure_of_what_they_dream() -> None:
    design = MLP((20, 30, 4))
    rng = torch.Generator().manual_seed(0)
    networks = [{name: 3 * w for name, w in design.init(rng).items()} for _ in range(2)]
    ensemble = Ensemble(design, networks, torch.zeros(2, 20))
    start = torch.randn(40, 20, generator=rng)

    x = dream_of_classes(ensemble, start, 60, rng)

    before, after = ([out.softmax(1).amax(1).mean() for out in ensemble.outputs(one)] for one in (start, x))
    assert min(after) > 0.9 > 0.85 > max(before)
    first, second = ensemble.outputs(x)
    assert (first.argmax(1) == second.argmax(1)).float().mean() > 0.9
    assert set(first.argmax(1).tolist()) == {0, 1, 2, 3}
