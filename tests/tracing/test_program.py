"""What cannot be traced is refused in a sentence, and the module is afterwards as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import SpecError
from deepalign_cli.models.example import Example
from deepalign_cli.tracing.pipeline import trace


class Net(nn.Module):
    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.body = nn.Linear(5, 6), nn.Linear(6, 3), body

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.body(self.a(x)))


def branching(x: Tensor) -> Tensor:
    return x.relu() if x.sum() > 0 else x


def failing(x: Tensor) -> Tensor:
    raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("body", "inputs", "message"),
    [
        (branching, (torch.ones(2, 5),), r"depends on its inputs' values \(in branching, test_program.py"),
        (failing, (torch.ones(2, 5),), "ValueError: no such thing"),
        (torch.relu, (torch.ones(2, 4),), "Net cannot be traced"),
        (torch.relu, (torch.ones(2, 5), torch.ones(2)), "Net cannot be traced"),
        (torch.relu, (), "Net cannot be traced"),
    ],
)
def test_a_refusal_is_one_sentence_and_leaves_the_module(
    body: Callable[[Tensor], Tensor], inputs: tuple[Tensor, ...], message: str
) -> None:
    module = Net(body).train()
    module.b.eval()
    module.a.weight.requires_grad_(False)
    before = [(name, id(w), w.requires_grad) for name, w in module.named_parameters()]
    with pytest.raises(SpecError, match=message) as caught:
        trace(module, Example(inputs))
    assert "\n" not in str(caught.value)
    assert [(name, id(w), w.requires_grad) for name, w in module.named_parameters()] == before
    assert module.training
    assert module.a.training
    assert not module.b.training


def test_an_operation_without_a_rule_freezes_and_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.matrix_exp(x[:, :, None] * x[:, None, :] * 0.1)[:, 0]

    module = nn.Sequential(nn.Linear(5, 6), Odd(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    traced = trace(module, Example((torch.randn(2, 5),)))
    assert list(traced.unknown) == ["linalg_matrix_exp in 1"]
    assert set(traced.spec.groups()) == {"g2"}
    assert any("linalg_matrix_exp in 1" in reason for reason in traced.stays)


def test_tied_tensors_move_as_one_and_unreached_ones_stay() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight
            self.spare, self.c = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))

    traced = trace(Tied(), Example((torch.randn(2, 6),)))
    assert set(traced.unreached) == {"spare.weight", "spare.bias"}
    assert "a.weight" not in traced.spec.axes  # its columns are inputs, so its rows stay too
    assert not {"spare.weight", "spare.bias"} & set(traced.spec.axes)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm,
                                  nn.utils.parametrizations.spectral_norm])  # fmt: skip
def test_weights_under_a_norm_move(norm: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3))
    traced = trace(module, Example((torch.randn(2, 5),)))
    assert not [reason for reason in traced.stays if "failed the check" in reason]
    assert len(traced.spec.groups()) == 1
