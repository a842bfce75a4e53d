from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import DeepalignError
from deepalign_cli.measure.spec_check import SpecCheck, check_spec
from deepalign_cli.models.example import Example
from deepalign_cli.models.subject import Subject
from deepalign_cli.symmetry.axes import parse_axes
from deepalign_cli.symmetry.spec import Activation, Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests import nets
from tests.operations.making import generic

RIGHT = {
    "fc1.weight": "+p 6", "fc1.bias": "+p",
    "fc2.weight": "+q -p", "fc2.bias": "+q",
    "fc3.weight": "3 -q",
}  # fmt: skip
INPUTS = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Wrapped(nn.Module):
    def __init__(self, wrap: object) -> None:
        super().__init__()
        self.inner, self.wrap = nets.named_mlp((6, 8, 8, 3)), wrap

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.inner(x))  # type: ignore[operator]


def checked(
    changed: Mapping[str, str], activation: Activation | None = None, kind: str = "relu"
) -> SpecCheck:
    model = generic(lambda: nets.named_mlp((6, 8, 8, 3), kind), 0, torch.float64)
    spec = Spec({name: parse_axes(text, name) for name, text in (RIGHT | dict(changed)).items() if text})
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    symmetry = Symmetry(
        spec.with_activation(activation), {name: tuple(w.shape) for name, w in weights.items()}
    )
    return check_spec(subject(model), symmetry, weights)


def subject(model: nn.Module) -> Subject:
    return Subject(model, {name: name for name in model.state_dict()}, Example((INPUTS,)))


@pytest.mark.parametrize(
    ("activation", "kind"),
    [(None, "gelu"), (Activation.RELU, "relu"), (Activation.TANH, "tanh"), (Activation.SIN, "sin")],
)
def test_the_right_spec_passes(activation: Activation | None, kind: str) -> None:
    check = checked({}, activation, kind)
    assert check.passed
    assert check.broken == {}
    assert check.residual < 1e-13


@pytest.mark.parametrize(
    ("changed", "suspect"),
    [
        ({"fc2.weight": "+q 8"}, "fc2.weight (axis 1 should carry 'p')"),
        ({"fc1.bias": "8"}, "fc1.bias (axis 0 should carry 'p')"),
        ({"fc1.bias": ""}, "fc1.bias (axis 0 should carry 'p')"),
        ({"fc2.bias": "8"}, "fc2.bias (axis 0 should carry 'q')"),
        ({"fc3.weight": ""}, "fc3.weight (axis 1 should carry 'q')"),
    ],
)
def test_an_entry_that_is_missing_is_the_only_suspect(changed: dict[str, str], suspect: str) -> None:
    check = checked(changed)
    assert not check.passed
    assert list(check.broken.values()) == [(suspect,)]


def test_an_entry_too_many_is_the_only_suspect() -> None:
    check = checked(
        {"fc1.weight": "p 6", "fc1.bias": "p", "fc2.weight": "q p", "fc2.bias": "q", "fc3.weight": "3 q"}
        | {"fc3.bias": "3"}
    )
    assert check.passed
    check = checked({"fc2.bias": "p"})
    assert "fc2.bias (axis 0 should not carry 'p')" in check.broken["p"]
    assert "fc2.bias (axis 0 should carry 'q')" in check.broken["q"]


def test_a_mark_that_is_missing_leaves_the_carriers_as_suspects() -> None:
    check = checked({"fc2.weight": "+q p"}, Activation.RELU)
    assert not check.passed
    assert "fc2.weight" in check.broken["p"]
    assert "q" not in check.broken


def test_the_wrong_activation_breaks_every_group() -> None:
    assert set(checked({}, Activation.TANH, "relu").broken) == {"p", "q"}
    assert set(checked({}, Activation.RELU, "gelu").broken) == {"p", "q"}


@pytest.mark.parametrize("wrap", [lambda y: (y, 3), lambda y: {"logits": y}, lambda y: [y]])
def test_the_first_output_counts(wrap: object) -> None:
    model = generic(lambda: Wrapped(wrap), 0, torch.float64)
    spec = Spec({f"inner.{name}": parse_axes(text, name) for name, text in RIGHT.items()})
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    symmetry = Symmetry(spec, {name: tuple(w.shape) for name, w in weights.items()})

    check = check_spec(subject(model), symmetry, weights)
    assert check.passed
    assert check.runs >= 2


def test_an_output_that_is_no_tensor_is_refused() -> None:
    model = generic(lambda: Wrapped(lambda _: None), 0, torch.float64)
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    symmetry = Symmetry(replace(Spec({})), {name: tuple(w.shape) for name, w in weights.items()})

    with pytest.raises(DeepalignError, match="returns no floating-point tensor"):
        check_spec(subject(model), symmetry, weights)
