import copy
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from deepalign_cli.combiners.slerp import Slerp
from deepalign_cli.data.dataset import Data, Part
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.errors import NonFiniteError
from deepalign_cli.measure.losses import CrossEntropy
from deepalign_cli.measure.paths import NetworkPath, alphas_of, measure, mix
from deepalign_cli.progress import Progress
from tests import nets

ALPHAS = alphas_of(9)


def data_of(x: Tensor, y: Tensor) -> Data:
    return Data("made", "", {"": Part(x, y)}, torch.arange(len(x)), Preparation())


def example(kind: str) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    (a, shape), (b, _) = nets.ALL[kind](), nets.ALL[kind]()
    for seed, model in enumerate((a, b)):
        nets.randomise_(model.eval(), torch.Generator().manual_seed(seed))
    x = torch.randn(90, *shape)
    classes = a(x[:1]).shape[1]
    return a, b, x, torch.randint(classes, (90,))


def plain_loop(
    a: nn.Module, b: nn.Module, x: Tensor, y: Tensor, alphas: Sequence[float]
) -> tuple[list[float], list[float]]:
    """What anyone would write: load every mixture into the module, and run all examples at once."""
    model, losses, shares = copy.deepcopy(a).double(), [], []
    for alpha in alphas:
        state = {}
        for name, w in a.state_dict().items():
            other = b.state_dict()[name]
            state[name] = (1 - alpha) * w.double() + alpha * other.double() if w.is_floating_point() else w
        model.load_state_dict(state)
        with torch.no_grad():
            out = model(x.double())
        losses.append(float(functional.cross_entropy(out, y)))
        shares.append(float((out.argmax(1) == y).double().mean()))
    return losses, shares


def run_of(model: nn.Module):  # type: ignore[no-untyped-def]
    return lambda weights, x: functional_call(model, dict(weights), (x,))


@pytest.mark.parametrize("kind", ["mlp", "plain_cnn_bn", "resnet_basic"])
def test_figures_are_those_of_a_plain_loop(kind: str) -> None:
    a, b, x, y = example(kind)

    curve = measure(
        run_of(a),
        a.state_dict(),
        [NetworkPath("m", b.state_dict())],
        data_of(x, y),
        CrossEntropy(),
        ALPHAS,
        32,
    )[0]

    losses, shares = plain_loop(a, b, x, y, ALPHAS)
    assert curve.losses == pytest.approx(losses, rel=1e-5, abs=1e-5)
    assert curve.accuracies == pytest.approx(shares, abs=0.012)  # ties may fall differently in float32


def test_a_path_need_not_be_straight() -> None:
    a, b, x, y = example("mlp")
    path = NetworkPath("m", b.state_dict(), along=lambda alpha: Slerp((1 - alpha, alpha)))
    arc, line = (
        measure(run_of(a), a.state_dict(), [one], data_of(x, y), CrossEntropy(), (0.0, 0.3, 1.0))[0].losses
        for one in (path, NetworkPath("m", b.state_dict()))
    )
    pairs = {name: [w, b.state_dict()[name]] for name, w in a.state_dict().items()}
    network = {name: Slerp((0.7, 0.3))(name, pair) for name, pair in pairs.items()}
    assert arc[1] == pytest.approx(float(functional.cross_entropy(run_of(a)(network, x), y)), rel=1e-6)
    assert arc[1] != pytest.approx(line[1], rel=1e-3)
    assert (arc[0], arc[2]) == pytest.approx((line[0], line[2]))


def test_several_paths_share_the_data_and_the_reference() -> None:
    a, b, x, y = example("mlp")
    seen = []

    def run(weights, x):  # type: ignore[no-untyped-def]
        seen.append(len(x))
        return functional_call(a, dict(weights), (x,))

    paths = [NetworkPath("b", b.state_dict()), NetworkPath("itself", a.state_dict())]
    found = measure(run, a.state_dict(), paths, data_of(x, y), CrossEntropy(), ALPHAS, 45)

    assert len(seen) == 2 * (2 * len(ALPHAS) - 1)  # two batches; alpha 0 is run once for both
    assert found[0].losses[0] == found[1].losses[0]
    assert found[1].losses == pytest.approx([found[1].losses[0]] * len(ALPHAS))


def test_batches_do_not_change_the_figures() -> None:
    a, b, x, y = example("plain_cnn")
    paths = [NetworkPath("b", b.state_dict())]

    by_size = [
        measure(run_of(a), a.state_dict(), paths, data_of(x, y), CrossEntropy(), ALPHAS, size)[0].losses
        for size in (7, 90)
    ]

    assert by_size[0] == pytest.approx(by_size[1], rel=1e-6)


def test_what_repairs_is_asked_at_every_alpha() -> None:
    a, b, x, y = example("mlp")
    asked = []

    def correct(weights, alpha):  # type: ignore[no-untyped-def]
        asked.append(alpha)
        return a.state_dict()

    path = NetworkPath("m", b.state_dict(), 0.0, correct)
    curve = measure(run_of(a), a.state_dict(), [path], data_of(x, y), CrossEntropy(), ALPHAS, 90)[0]

    assert asked == list(ALPHAS)
    assert len(set(curve.losses)) == 1


def test_progress_ends_at_one() -> None:
    a, b, x, y = example("mlp")
    shares: list[float] = []
    progress = Progress(lambda share, label: shares.append(share))
    paths = [NetworkPath("b", b.state_dict()), NetworkPath("c", a.state_dict())]

    measure(run_of(a), a.state_dict(), paths, data_of(x, y), CrossEntropy(), ALPHAS, 30, progress)

    assert shares == sorted(shares)
    assert (len(shares), shares[-1]) == (2 * len(ALPHAS), pytest.approx(1.0))


def test_a_network_that_cannot_be_repaired_has_no_loss_and_the_others_theirs() -> None:
    a, b, x, y = example("mlp")

    def correct(weights, alpha):  # type: ignore[no-untyped-def]
        if alpha == 0.5:
            raise NonFiniteError("activations hold NaN.", "")
        return weights

    paths = [NetworkPath("plain", b.state_dict()), NetworkPath("repaired", b.state_dict(), 0.0, correct)]
    plain, repaired = measure(run_of(a), a.state_dict(), paths, data_of(x, y), CrossEntropy(), ALPHAS, 32)

    half = ALPHAS.index(0.5)
    assert math.isnan(repaired.losses[half])
    assert not repaired.is_finite
    assert repaired.peak == half
    others = [i for i in range(len(ALPHAS)) if i != half]
    assert [repaired.losses[i] for i in others] == pytest.approx([plain.losses[i] for i in others])


def test_half_weights_are_mixed_in_float32() -> None:
    a, b, x, y = example("mlp")
    half = [{n: w.half() for n, w in m.state_dict().items()} for m in (a, b)]
    wide = [{n: w.float() for n, w in one.items()} for one in half]

    found = [
        measure(run_of(a), s[0], [NetworkPath("b", s[1])], data_of(x, y), CrossEntropy(), ALPHAS)[0]
        for s in (half, wide)
    ]

    assert found[0].losses == found[1].losses


def test_mixing_keeps_integers_and_reuses_room() -> None:
    a = {"w": torch.zeros(3), "n": torch.tensor(5)}
    b = {"w": torch.ones(3), "n": torch.tensor(9)}
    room: dict[str, Tensor] = {}

    first = mix(a, b, 0.25, room)["w"]

    assert first.tolist() == [0.25] * 3
    second = mix(a, b, 0.5, room)
    assert second["w"] is first
    assert second["n"] == 5


def test_only_what_stands_at_alpha_0_is_shared() -> None:
    a, b, x, y = example("mlp")
    paths = [NetworkPath("b", b.state_dict()), NetworkPath("itself", a.state_dict())]
    whole, part = (
        measure(run_of(a), a.state_dict(), paths, data_of(x, y), CrossEntropy(), alphas)
        for alphas in ((0.0, 0.5, 1.0), (0.5, 1.0, 0.0))
    )
    for one, other in zip(whole, part, strict=True):
        assert other.losses == (*one.losses[1:], one.losses[0])
