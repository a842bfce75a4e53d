"""A task vector that is carried to another network: exactly, where that network is the first one moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import deepalign_cli as da
from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.operations import pieces
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.stream import Stream
from deepalign_cli.operations.transport import Addition, Transport
from deepalign_cli.symmetry.resolve import resolve_spec, shapes_of
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry
from tests import nets
from tests.aligners.turning_pairs import SYMMETRY, TEXT, between, drawn
from tests.operations.making import generic, network
from tests.symmetry.builders import seeded

State = dict[str, Tensor]


def tuned(base: State, seed: int = 7, size: float = 0.03) -> State:
    """The network after some training: every floating-point tensor has changed, variances stay above 0."""
    rng = seeded(seed)
    steps = {n: size * torch.randn(w.shape, generator=rng, dtype=torch.float64) for n, w in base.items()}
    return {
        n: (w * steps[n].exp() if "running_var" in n else w + steps[n]).to(w.dtype)
        if w.is_floating_point() else w for n, w in base.items()
    }  # fmt: skip


def moved(state: State, seed: int = 3, activation: Activation | None = None) -> Callable[[State], State]:
    """What moves any network of this architecture by one random element."""
    symmetry = Symmetry(resolve_spec(da.open(state), None, activation), shapes_of(da.open(state)))
    element = symmetry.random(seeded(seed))
    return lambda weights: symmetry.apply(element, weights)


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference between two networks of the same names."""
    assert one.keys() == other.keys()
    return max(float((w.double() - other[n].double()).abs().max()) for n, w in one.items())


@pytest.mark.parametrize("kind", ["named_mlp", "plain_cnn_bn"])
def test_what_was_learned_is_moved_with_the_units(kind: str) -> None:
    base = dict(network(kind, 0, torch.float64).state_dict())
    after = tuned(base)
    move = moved(base)
    for scale in (1.0, 0.4):
        result = da.transport(base, after, move(base), scale=scale, method="weights", restarts=1)
        expected = move({n: w + scale * (after[n] - w) for n, w in base.items()})
        trained = {n: w for n, w in expected.items() if "running_var" not in n}
        assert apart({n: result[n] for n in trained}, trained) < 1e-12
    assert apart(da.transport(base, after, move(base), method="weights", restarts=1), move(after)) < 1e-12


@pytest.mark.parametrize("activation", [Activation.RELU, Activation.TANH])
def test_scales_and_signs_go_with_it(activation: Activation) -> None:
    base = dict(generic(nets.named_mlp, 0, torch.float64).state_dict())
    after = tuned(base)
    move = moved(base, activation=activation)
    result = da.transport(base, after, move(base), method="weights", restarts=1, activation=activation.value)
    assert apart(result, move(after)) < 1e-9


def test_what_turns_is_turned_from_the_tuned_networks_own_gains() -> None:
    base = drawn(0)
    after = tuned(base)  # the gains of its norms, too, so that its streams have others than the base's
    g = between(drawn(50), base, SYMMETRY.random(seeded(1)))
    other = SYMMETRY.apply(g, base)
    spec = da.Spec.parse(TEXT)
    result = da.transport(base, after, other, method="rotations", spec=spec, no_dream=True)
    of_tuned = between(other, after, SYMMETRY.random(seeded(1)))
    assert result.alignments[0].element.turn
    assert result.alignments[0].element.enter
    assert apart(result, SYMMETRY.apply(of_tuned, after)) < 1e-8
    assert apart(result, other) > 0.01


def test_half_types_lose_no_digits_of_the_difference() -> None:
    base = {n: w.bfloat16() for n, w in network("named_mlp", 0).state_dict().items()}
    after = {n: (w.float() * 1.01).bfloat16() for n, w in base.items()}
    b = {n: torch.zeros_like(w) for n, w in base.items()}
    move = moved(base, activation=Activation.RELU)
    result = da.transport(base, after, {**move(base)}, method="none", scale=2.0)
    zero = da.transport(base, after, b, method="none", scale=2.0)
    for n, w in base.items():
        assert result[n].dtype == torch.bfloat16
        assert torch.equal(zero[n], (2 * (after[n].float() - w.float())).bfloat16())


def test_statistics_are_carried_and_never_below_zero() -> None:
    addition = Addition(3.0)
    base, before, after = (torch.tensor([value, 1.0]) for value in (0.1, 1.0, 0.01))
    variance = addition("bn.running_var", [base, before, after])
    assert torch.allclose(variance, torch.tensor([0.0, 1.0]), atol=1e-4)
    assert float(variance.min()) >= 0
    assert torch.allclose(addition("bn.running_mean", [base, before, after]), torch.tensor([-2.87, 1.0]))
    assert torch.equal(addition("n", [torch.tensor(3), torch.tensor(1), torch.tensor(2)]), torch.tensor(3))
    assert addition.take() == 0  # statistics are no part of a task vector
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    state = net.state_dict()
    assert any("BatchNorm" in note for note in da.transport(state, state, state, method="none").notes)


def test_threads_and_pieces_change_nothing_and_types_are_rounded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = {n: w.bfloat16() for n, w in network("named_mlp", 0).state_dict().items()}
    after, other = tuned(base), {n: w.bfloat16() for n, w in network("named_mlp", 1).state_dict().items()}
    give = {"method": "weights", "restarts": 1}
    whole = da.transport(base, after, other, **give)
    monkeypatch.setattr(pieces, "ELEMENTS", 64)
    session = Session([da.open(other), da.open(base)], Settings("weights", options={"restarts": 1}))
    stream = Transport(session, da.open(after), threads=3).stream
    for name, w in whole.items():
        made = torch.cat([stream._made(name, part, start).flatten() for start, part in parts(stream, name)])
        assert made.equal(w.flatten()), name
    wide = da.transport(base, after, other, **give, dtype="float32")
    for name, w in whole.items():
        assert wide[name].dtype == torch.float32
        assert wide[name].bfloat16().equal(w), name
    assert any(not wide[name].equal(w.float()) for name, w in whole.items())


def parts(stream: Stream, name: str) -> Iterator[tuple[int, list[Tensor]]]:
    found = stream._pieces(name)
    for start, stop in found.spans():
        yield start, found.tensors(start, stop)


def test_complex_numbers_are_carried() -> None:
    base, before, after = (torch.tensor([value]) for value in (1 + 1j, 2j, 2 + 2j))
    assert torch.equal(Addition(0.5)("w", [base, before, after]), torch.tensor([2 + 1j]))


def test_notes_say_what_looks_wrong() -> None:
    a, b = (dict(network("named_mlp", seed).state_dict()) for seed in (0, 1))
    same = da.transport(a, a, b, method="none")
    assert apart(same, b) == 0
    assert "C and B hold the same weights: the output is A" in same.notes
    far = {n: 5 * w for n, w in a.items()}
    assert any("was it trained from it?" in note for note in da.transport(a, far, b, method="none").notes)


def test_another_shape_is_refused() -> None:
    a, b = (dict(network("named_mlp", seed).state_dict()) for seed in (0, 1))
    other = {**a, "fc3.weight": torch.randn(6, 20), "fc3.bias": torch.randn(6)}
    with pytest.raises(MismatchError, match=r"fc3\.weight.*'C'"):
        da.transport(a, other, b, method="none")
    with pytest.raises(UsageError, match="--scale is nan"):
        da.transport(a, a, b, method="none", scale=float("nan"))


def test_partial_leaves_heads_of_other_classes() -> None:
    a, b = (dict(network("named_mlp", seed, torch.float64).state_dict()) for seed in (0, 1))
    after = {**tuned(a), "fc3.weight": torch.randn(9, 20).double(), "fc3.bias": torch.randn(9).double()}
    result = da.transport(a, after, b, method="none", partial=True)
    for n, w in b.items():
        expected = w if n.startswith("fc3") else w + after[n] - a[n]
        assert torch.allclose(result[n], expected, atol=1e-12), n


def test_it_is_written_as_it_is_returned(tmp_path: Path) -> None:
    a, b = (dict(network("named_mlp", seed).state_dict()) for seed in (0, 1))
    out = tmp_path / "out.safetensors"
    result = da.transport(a, tuned(a), b, method="weights", restarts=1, scale=0.5, out=out)
    written = da.open(out)
    assert apart(dict(written), dict(result)) == 0
    told = {k.removeprefix("deepalign."): v for k, v in written.metadata.items()}
    assert (told["command"], told["scale"], told["method"]) == ("transport", "0.5", "weights")
    assert {"sha256.0", "sha256.1", "sha256.2"} <= told.keys()
