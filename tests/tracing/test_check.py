"""The check at the end of a trace has power: what is wrong does not pass it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import SpecError
from deepalign_cli.models.example import Example
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.tracing.check import check
from deepalign_cli.tracing.pipeline import trace
from deepalign_cli.tracing.rules.rulebook import load_rules
from deepalign_cli.tracing.value import Value


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.GELU(), nn.Flatten(),
        nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 3),
    )  # fmt: skip


EXAMPLE = Example((torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)),))


def without_one_place(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """The spec with one group taken off one axis, every way."""
    for name, axes in spec.axes.items():
        for number, axis in enumerate(axes):
            for group in axis.groups():
                terms = tuple(
                    tuple(
                        Atom(size=spec.sizes[group]) if isinstance(f, Atom) and f.name == group else f
                        for f in t
                    )
                    for t in axis.terms
                )
                left = (*axes[:number], Axis(terms), *axes[number + 1 :])
                yield f"{group} off axis {number} of {name}", replace(spec, axes={**spec.axes, name: left})


def test_a_group_taken_off_any_axis_is_found() -> None:
    module = network().eval()
    traced = trace(module, EXAMPLE)
    assert traced.residual is not None
    assert traced.residual < 1e-10
    mutants = list(without_one_place(traced.spec))
    assert len(mutants) >= 12
    for what, spec in mutants:
        assert check(spec, module, EXAMPLE).failed, what


def test_a_wrong_rule_freezes_its_group_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).cumsum(1)).relu())

    monkeypatch.setitem(load_rules(), "cumsum", lambda labels, op, x, dim: Value(list(x.lazy)))
    traced = trace(Net(), Example((torch.randn(3, 5),)))
    assert set(traced.spec.groups()) == {"b"}
    assert [reason for reason in traced.stays if "failed the check" in reason]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda y: y / 0 * 0, "not finite"),
        (lambda y: y * 0 + 1, "do not depend"),
        (lambda y: y.long(), "no floating"),
    ],
)
def test_outputs_that_tell_nothing_are_errors(body: object, message: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(5, 6)

        def forward(self, x: Tensor) -> Tensor:
            return body(self.a(x))  # type: ignore[operator]

    with pytest.raises(SpecError, match=message):
        trace(Net(), Example((torch.randn(3, 5),)))


def test_a_recurrent_network_traced_at_one_step_is_right_at_five() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(4, 6, 2, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    module = Net().eval()
    spec = trace(module, Example((torch.randn(2, 1, 4),))).spec
    assert not check(spec, module, Example((torch.randn(2, 5, 4),))).failed
