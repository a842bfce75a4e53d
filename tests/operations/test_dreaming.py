from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import deepalign_cli as da
from deepalign_cli.checkpoint.memory import MemoryCheckpoint
from deepalign_cli.errors import DataError, NonFiniteError, SpecError, UsageError
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.lookup import Network
from deepalign_cli.models.run import Run
from deepalign_cli.models.runnable import Runnable
from deepalign_cli.operations.dreaming import Dreamer
from deepalign_cli.operations.far_heads import HANDED_OVER
from deepalign_cli.operations.run_settings import DREAM, RunSettings
from deepalign_cli.operations.settings import Settings
from tests.dreams.networks import DESIGN, network


def _dreamer(run: Run = DESIGN, *, is_asked: bool, **running: Any) -> Dreamer:
    checkpoints = [MemoryCheckpoint(network(seed), name) for seed, name in enumerate("AB")]
    settings = RunSettings(data=DREAM if is_asked else None, **running)
    opened = Network(Runnable(run), "a test's network", DESIGN.input_shape)
    return Dreamer(checkpoints, settings, Settings(), lambda: opened, is_asked=is_asked)


def _nan(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return DESIGN(weights, x) * (torch.nan if len(x) > 2 else 1)


def test_small_networks_dream_alike_whether_they_are_asked_or_not() -> None:
    for is_asked in (False, True):
        dreamt = _dreamer(is_asked=is_asked).evidence()
        assert dreamt is not None
        assert dreamt.says == "64 of 1x8x8 of what BatchNorm remembers, in 80 steps"
        assert dreamt.shows
        assert dreamt.acts


def test_a_method_that_trains_on_text_gets_more_of_it_than_others() -> None:
    design = Decoder(8, 2, 8, layers=1, context=32, tokens=12, positions="rotary")
    both = [
        MemoryCheckpoint(design.init(torch.Generator().manual_seed(i)), name) for i, name in enumerate("AB")
    ]
    opened = Network(Runnable(design), "a small language model", None)
    dreamer = Dreamer(both, RunSettings(), Settings(), lambda: opened, is_asked=False)
    told = [dreamer.evidence(trained_on=trained_on) for trained_on in (False, True, False)]
    assert [one.says.split(" of ")[0] for one in told if one] == ["64 texts", "512 texts", "512 texts"]


def test_labels_are_what_the_parents_give_on_average() -> None:
    dreamer = _dreamer(is_asked=True, dream=6, dream_steps=1)
    x, labels = next(dreamer.testbed().training.batches(6))

    with torch.no_grad():
        expected = torch.stack([DESIGN(dict(one), x).softmax(1) for one in dreamer.checkpoints]).mean(0)
    assert labels is not None
    torch.testing.assert_close(labels, expected)
    assert dreamer.testbed() is dreamer.testbed()


def test_a_network_that_gives_nan_is_told_or_left_to_its_weights() -> None:
    with pytest.raises(NonFiniteError, match="on dreamed inputs"):
        _dreamer(_nan, is_asked=True).evidence()
    assert _dreamer(_nan, is_asked=False).evidence() is None


@pytest.mark.parametrize("outputs", [1, 3])
def test_where_dreams_show_nothing_nobody_dreams_without_being_asked(outputs: int) -> None:
    """Of classes a method trains by itself; those that turn units take what they train on elsewhere."""
    design = MLP((6, 8, outputs))
    one = MemoryCheckpoint(design.init(torch.Generator().manual_seed(0)), "A")
    opened = Network(Runnable(design), "an MLP", (6,))
    asked, unasked = (
        Dreamer([one, one], RunSettings(data=data, dream=4, dream_steps=1), Settings(), lambda: opened,
                is_asked=data is not None)
        for data in (DREAM, None)
    )  # fmt: skip

    assert (unasked.evidence() is None) is (outputs == 1)
    assert unasked.evidence(trained_on=True) is None
    dreamt = asked.evidence()
    assert dreamt is not None
    assert not dreamt.shows
    assert not dreamt.acts
    assert dreamt.trains is (outputs == 3)


def test_who_takes_long_for_enough_dreams_to_train_on_has_none() -> None:
    design = MLP((1000, 1400, 1000, 3))
    one = MemoryCheckpoint(design.init(torch.Generator().manual_seed(0)), "A")
    opened = Network(Runnable(design), "an MLP", (1000,))
    dreamer = Dreamer([one, one], RunSettings(), Settings(), lambda: opened, is_asked=False)

    assert not dreamer.may_train
    assert dreamer.evidence() is None


def test_a_network_that_is_not_known_is_told_or_left_to_its_weights() -> None:
    def unknown() -> Network:
        raise SpecError("nobody knows this network.")

    one = MemoryCheckpoint(network(0), "A")
    asked, unasked = (
        Dreamer([one, one], RunSettings(data=data), Settings(), unknown, is_asked=data is not None)
        for data in (DREAM, None)
    )
    assert unasked.evidence() is None
    assert unasked.evidence(trained_on=True) is None
    with pytest.raises(SpecError, match="nobody knows"):
        asked.evidence()


def test_how_data_are_read_says_nothing_of_dreams() -> None:
    with pytest.raises(UsageError, match="--split has no effect on dreams"):
        _dreamer(is_asked=True, splits=("train",))


class _Unmoved(nn.Module):
    """A classifier whose outputs have no gradients in one way or another."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.body = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "no_grad":
            with torch.no_grad():
                return self.body(x)
        if self.way == "refuses":
            assert not self.body[0].weight.requires_grad
        out: Tensor = self.body(x)
        if self.way == "in place":
            out = torch.sigmoid(out)
            out.mul_(2)
        return functional.one_hot(out.argmax(1), 4) if self.way == "classes" else out


@pytest.mark.parametrize("way", ["no_grad", "in place", "refuses", "classes"])
def test_a_network_without_gradients_is_left_to_its_weights_unless_training_is_asked_for(way: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        a, b = (_Unmoved(way).eval() for _ in "AB")
    data = torch.randn(20, 6), torch.arange(20) % 4
    model = _Unmoved(way).eval(), data[0][:2]

    by_default, by_weights = da.align(a, b, model=model), da.align(a, b, model=model, no_dream=True)
    for group, perm in by_weights.element.perm.items():
        assert torch.equal(by_default.element.perm[group], perm)
    assert da.align(a, b, model=model, data=data).details["kept"] != "ste"
    with pytest.raises(DataError):
        da.align(a, b, model=model, data=data, refine="ste")


class _Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).mean(1))
        return out


def test_nothing_is_dreamed_for_an_alignment_that_rotations_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    def dreamed(*args: Any) -> None:
        raise AssertionError("classes were dreamed of")

    monkeypatch.setattr("deepalign_cli.dreams.dream.dream_of_classes", dreamed)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        a, b = (_Attending().eval() for _ in "AB")
    found = da.align(a, b, model=(_Attending().eval(), torch.randn(2, 5, 8)))

    assert found.method == "rotations"
    assert found.details["notes"] == [HANDED_OVER]
