"""Where the gain of a norm goes, on programs of a few operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.tracing.norm_readers import Readers, norm_readers
from tests.tracing.quick import Quick
from tests.turning_nets import OnePlus, Rms


class Net(nn.Module):
    """A norm of four units, two layers that may read it, and what is done with them."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm, self.other = norm or nn.LayerNorm(4), nn.LayerNorm(4)
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)
        self.conv = nn.Conv1d(4, 2, 1)
        self.shift = nn.Parameter(torch.randn(4))
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def read(module: Net) -> Readers:
    program = Quick(module, torch.randn(2, 5, 4))
    vectors = ("norm.weight", "norm.bias", "other.weight", "other.bias", "shift")
    return norm_readers(program, {name: (name,) for name in vectors if name in program.state()})


UNDONE: dict[str, tuple[Callable[[Net, Tensor], Tensor], set[str]]] = {
    "one layer": (lambda m, x: m.a(m.norm(x)), {"norm.bias", "a.weight"}),
    "two": (lambda m, x: m.a(m.norm(x)) + m.b(m.norm(x)[:, :1]), {"norm.bias", "a.weight", "b.weight"}),
    "in another shape": (lambda m, x: m.a(m.norm(x).reshape(10, 4).unsqueeze(0)), {"norm.bias", "a.weight"}),
    "a shift": (lambda m, x: m.a(m.norm(x) + m.shift), {"norm.bias", "shift", "a.weight"}),
    "a mean over places": (lambda m, x: m.a(m.norm(x).mean(1)), {"norm.bias", "a.weight"}),
    "a product of matrices": (lambda m, x: m.norm(x) @ m.a.weight.T, {"norm.bias", "a.weight"}),
    "a convolution": (lambda m, x: m.conv(m.norm(x).transpose(1, 2)), {"norm.bias", "conv.weight"}),
}  # fmt: skip


@pytest.mark.parametrize("case", UNDONE)
def test_what_reads_a_norm_undoes_its_gain(case: str) -> None:
    body, names = UNDONE[case]
    found = read(Net(body))
    assert {gain: {*others} for gain, others in found.undone_by.items()} == {"norm.weight": names}
    assert found.centring == {"norm.weight"}
    assert not found.seen_by


def test_a_gain_that_is_written_out_does_not_centre() -> None:
    found = read(Net(lambda m, x: m.a(m.norm(x)), Rms(4)))
    assert found.undone_by == {"norm.weight": ("a.weight",)}
    assert not found.centring


def test_a_gain_to_which_one_is_added_is_told_through_casts() -> None:
    found = read(Net(lambda m, x: m.a(m.norm(x)), OnePlus(4)))
    assert found.undone_by == {"norm.weight": ("a.weight",)}
    assert found.plus_one == {"norm.weight"}
    assert not read(Net(lambda m, x: m.a(m.norm(x)), Rms(4))).plus_one


SEEN: dict[str, tuple[Callable[[Net, Tensor], Tensor], str, str]] = {
    "it is returned": (lambda m, x: m.norm(x), "norm.weight", "output sees what it multiplies"),
    "it is added to": (lambda m, x: m.a(m.norm(x) + x), "norm.weight", "add sees what it multiplies"),
    "an activation": (lambda m, x: m.a(m.norm(x).tanh()), "norm.weight", "tanh sees what it multiplies"),
    "one use of two": (
        lambda m, x: m.a(m.norm(x)).sum() + m.norm(x).exp(), "norm.weight", "exp sees what it multiplies"
    ),
    "another norm reads it": (
        lambda m, x: m.a(m.other(m.norm(x))), "norm.weight", "layer_norm sees what it multiplies"
    ),
    "a layer behind two norms": (
        lambda m, x: m.a(m.norm(x)) + m.a(m.other(x)), "norm.weight", "'a.weight' is used elsewhere, too"
    ),
    "a layer that reads what is not normed": (
        lambda m, x: m.a(m.norm(x)) + m.a(x), "norm.weight", "'a.weight' is used elsewhere, too"
    ),
    "a weight that is more than a weight": (
        lambda m, x: m.a(m.norm(x)) * m.a.weight.abs().sum(), "norm.weight", "'a.weight' is used elsewhere"
    ),
    "a shift that is used elsewhere": (
        lambda m, x: m.a(m.norm(x) + m.shift) * m.shift.exp().sum(), "norm.weight", "'shift' is used"
    ),
    "one is added at one place of two": (
        lambda m, x: m.a(m.norm(x)) + m.b(x * (1 + m.norm.weight)), "norm.weight", "one is added to it in"
    ),
    "two are added": (
        lambda m, x: m.a(m.norm(x)) + m.b(x * (2 + m.norm.weight)), "norm.weight", "add reads the gain"
    ),
    "the gain itself is looked at": (
        lambda m, x: m.a(m.norm(x)) * m.norm.weight.exp().sum(), "norm.weight", "exp reads the gain"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SEEN)
def test_a_gain_that_is_seen_elsewhere_stays_and_the_reason_is_given(case: str) -> None:
    body, gain, why = SEEN[case]
    found = read(Net(body))
    assert gain not in found.undone_by
    assert why in found.seen_by[gain]


def test_all_names_of_a_tied_tensor_undo_the_gain() -> None:
    program = Quick(Net(lambda m, x: m.a(m.norm(x))), torch.randn(2, 5, 4))
    names = {
        "norm.weight": ("norm.weight",),
        "a.weight": ("a.weight", "twin.weight"),
        "norm.bias": ("norm.bias",),
    }
    assert norm_readers(program, {"norm.weight": ("norm.weight",)}).undone_by["norm.weight"][-1] == "a.weight"
    found = norm_readers(program, names)
    assert found.undone_by["norm.weight"] == ("norm.bias", "a.weight", "twin.weight")
