import pytest
import torch

from deepalign_cli.dreams.dream import USUAL, Budget, Topic, ample_budget, dream, quick_budget, topic_of
from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.errors import NonFiniteError
from deepalign_cli.models.designs.mlp import MLP
from tests.dreams.networks import pair


def _mlp(outputs: int) -> Ensemble:
    design = MLP((6, 8, outputs))
    return Ensemble(design, [design.init(torch.Generator().manual_seed(0))], torch.zeros(2, 6))


def test_the_topic_is_what_the_networks_remember() -> None:
    assert topic_of(pair()) is Topic.STATISTICS
    assert topic_of(_mlp(3)) is Topic.CLASSES
    assert topic_of(_mlp(1)) is Topic.NOISE
    assert [topic for topic in Topic if topic.shows] == [Topic.STATISTICS, Topic.TEXT]


def test_dreams_are_those_of_their_seed() -> None:
    first, again, other = (dream(pair(), Topic.STATISTICS, Budget(5, 3), seed).inputs for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (5, 1, 8, 8)


@pytest.mark.parametrize("outputs", [1, 3])
def test_dreams_say_what_they_are_of(outputs: int) -> None:
    ensemble = _mlp(outputs)
    dreams = dream(ensemble, topic_of(ensemble), Budget(4, 2))

    assert dreams.says == {1: "4 of 6 of noise", 3: "4 of 6 of classes, in 2 steps"}[outputs]


def test_the_larger_networks_and_inputs_are_the_less_is_dreamed() -> None:
    shapes = ((784,), (3, 14, 14), (1, 28, 28), (3, 64, 64), (3, 224, 224))
    budgets = [quick_budget(shape, 100_000) for shape in shapes]
    assert [(budget.count, budget.steps) for budget in budgets] == [
        (64, 80),
        (64, 80),
        (63, 80),
        (12, 80),
        (8, 40),
    ]
    assert quick_budget((1, 28, 28), 10_000) == USUAL
    assert quick_budget((1, 28, 28), 10**9) == Budget(8, 40)


def test_small_networks_write_more_text_to_train_on() -> None:
    budgets = [ample_budget(Topic.TEXT, (32,), entries) for entries in (0, 10**5, 2**17 * 3, 10**7)]
    assert [(budget.count, budget.steps) for budget in budgets] == [(512, 0), (512, 0), (341, 0), (256, 0)]


def test_a_network_that_gives_nan_is_told() -> None:
    ensemble = _mlp(3)
    ensemble.networks[0]["fc1.bias"][0] = torch.nan

    with pytest.raises(NonFiniteError, match="gives NaN or Inf on dreamed inputs"):
        dream(ensemble, Topic.CLASSES, Budget(4, 1))
