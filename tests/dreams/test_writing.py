import torch
from torch import Tensor, nn

from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.dreams.writing import is_causal, random_tokens, vocabulary, written
from deepalign_cli.models.module import run_module, shapes_of


class Next(nn.Module):
    """After token t comes (t + 1) modulo 7, nearly always; the eighth token is never used."""

    def __init__(self, *, both_ways: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 8)
        self.head = nn.Linear(8, 8, bias=False)
        self.both_ways = both_ways
        with torch.no_grad():
            self.table.weight.copy_(torch.eye(8))
            self.table.weight[7] = 0
            self.head.weight.copy_(12 * torch.eye(8)[torch.tensor([6, 0, 1, 2, 3, 4, 5, 7])])

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.table(x))
        return scores + scores.mean(1, keepdim=True) if self.both_ways else scores


def _ensemble(*, both_ways: bool = False) -> Ensemble:
    module = Next(both_ways=both_ways)
    weights = {name: w.detach().clone() for name, w in module.state_dict().items()}
    run = run_module(module, shapes_of(module))
    return Ensemble(run, [weights, weights], torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]]))


def test_a_network_that_sees_what_comes_later_is_not_causal() -> None:
    assert is_causal(_ensemble())
    assert not is_causal(_ensemble(both_ways=True))


def test_networks_write_what_they_predict() -> None:
    text = written(_ensemble(), 6, torch.Generator().manual_seed(0))

    assert text.shape == (6, 32)
    assert ((text[:, 1:] - text[:, :-1]) % 7 == 1).float().mean() > 0.95


def test_what_networks_write_is_mixed() -> None:
    one = _ensemble()
    backwards = {**one.networks[0], "head.weight": one.networks[0]["head.weight"].T.contiguous()}
    both = Ensemble(one.run, [one.networks[0], backwards], one.like)
    text = written(both, 64, torch.Generator().manual_seed(0))

    upwards = ((text[:, 1:] - text[:, :-1]) % 7 == 1).float().mean(1) > 0.5
    assert int(upwards.sum()) == 32
    assert 4 < int(upwards[:32].sum()) < 28


def test_tokens_that_are_not_used_are_not_drawn() -> None:
    tokens = random_tokens(_ensemble(), 50, (3, 4), torch.Generator().manual_seed(0))

    assert vocabulary(_ensemble()).tolist() == [1.0] * 7 + [0.0]
    assert tokens.shape == (50, 3, 4)
    assert set(tokens.flatten().tolist()) == set(range(7))
