"""Repair: BatchNorm as a plain PyTorch pass resets it, and layers brought to their parents' statistics."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.errors import DataError, NonFiniteError
from deepalign_cli.models.run import Run
from deepalign_cli.repair import Moments, ParentStatistics, measure_parents, reestimated, repair
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensor_names import is_statistic
from tests import nets
from tests.symmetry.builders import HEADS, family_spec, generic, seeded, shapes_of

PLAIN = ["named_mlp", "plain_cnn", "vgg"]
NORMED = ["mlp_batchnorm", "plain_cnn_bn", "resnet_basic", "preact_resnet"]


@cache
def parents(name: str) -> tuple[nn.Module, Run, Symmetry, dict[str, Tensor], dict[str, Tensor], Tensor]:
    """A network, two sets of weights for it, and a batch of inputs."""
    module, shape = nets.ALL[name]()
    module.eval()
    a, b = (generic(module, seed) for seed in (0, 1))
    x = torch.randn(64, *shape, generator=seeded(2))

    def run(weights: Weights, x: Tensor) -> Tensor:
        out: Tensor = functional_call(module, dict(weights), (x,))
        return out

    return module, run, Symmetry(family_spec(module, HEADS.get(name)), shapes_of(a)), a, b, x


def mixed(a: dict[str, Tensor], b: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    return {n: WeightedMean((1 - alpha, alpha))(n, [w, b[n]]) for n, w in a.items()}


def largest_change(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((w.double() - b[n].double()).abs().max()) for n, w in a.items())


@pytest.mark.parametrize("name", NORMED)
def test_batchnorm_is_reset_as_a_plain_pass_in_training_mode_does_it(name: str) -> None:
    module, run, _, a, b, x = parents(name)
    half = mixed(a, b, 0.5)
    found = reestimated(run, half, lambda: [x])

    module.load_state_dict(half)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_running_stats()
            layer.momentum = None
    module.train()
    with torch.no_grad():
        module(x)
    module.eval()
    expected = {n: w for n, w in module.state_dict().items() if is_statistic(n)}
    assert found.keys() == expected.keys()
    for n, w in expected.items():
        assert torch.allclose(found[n], w, rtol=1e-4, atol=1e-5), n


def test_over_several_batches_the_statistics_are_those_of_all_samples() -> None:
    x = 2 + torch.randn(50, 6, generator=seeded(0))
    weights = {"running_mean": torch.zeros(6), "running_var": torch.ones(6)}

    def run(w: Weights, x: Tensor) -> Tensor:
        return functional.batch_norm(x, w["running_mean"], w["running_var"])

    found = reestimated(run, weights, lambda: x.split(17))
    assert torch.allclose(found["running_mean"], x.mean(0), atol=1e-6)
    assert torch.allclose(found["running_var"], x.var(0), atol=1e-6)


def test_a_network_without_batchnorm_has_nothing_to_reestimate() -> None:
    _, run, _, a, _, x = parents("named_mlp")
    assert reestimated(run, a, lambda: [x]) == {}


@pytest.mark.parametrize("alpha", [0.5, 0.3])
@pytest.mark.parametrize("name", PLAIN)
def test_the_repaired_networks_statistics_lie_between_the_parents(name: str, alpha: float) -> None:
    _, run, symmetry, a, b, x = parents(name)
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    before = mixed(a, b, alpha)
    after = repair(run, known, (1 - alpha, alpha), before, lambda: [x]).applied(before)

    layers = [n for n in a if n.endswith("weight")]
    assert list(known.layers) == layers
    own, spoilt = (measure_parents(run, symmetry, [w], lambda: [x]).totals[0] for w in (after, before))
    for layer in layers:
        one, other = (parent[layer] for parent in known.totals)
        mean = (1 - alpha) * one.mean + alpha * other.mean
        deviation = (1 - alpha) * one.deviation + alpha * other.deviation
        scale = float(deviation.max())
        assert torch.allclose(own[layer].mean, mean, atol=1e-4 * scale), layer
        assert torch.allclose(own[layer].deviation, deviation, atol=1e-4 * scale), layer
        assert not torch.allclose(spoilt[layer].deviation, deviation, rtol=1e-2)


def test_several_batches_come_close() -> None:
    _, run, symmetry, a, b, x = parents("plain_cnn")
    known = measure_parents(run, symmetry, [a, b], lambda: x.split(32))
    half = mixed(a, b, 0.5)
    after = repair(run, known, (0.5, 0.5), half, lambda: x.split(32)).applied(half)
    own = measure_parents(run, symmetry, [after], lambda: [x]).totals[0]
    for layer in known.layers:
        goal = sum(parent[layer].deviation / 2 for parent in known.totals)
        assert torch.allclose(own[layer].deviation, goal, rtol=0.05), layer


@pytest.mark.parametrize("name", [*PLAIN, *NORMED, "transformer_prenorm", "transformer_postnorm"])
def test_names_shapes_and_types_stay_and_the_ends_are_the_parents(name: str) -> None:
    _, run, symmetry, a, b, x = parents(name)
    known = measure_parents(run, symmetry, [a, b], lambda: x.split(40))
    for alpha in (0.0, 1.0):
        end = mixed(a, b, alpha)
        after = repair(run, known, (1 - alpha, alpha), end, lambda: x.split(40)).applied(end)
        assert largest_change(after, end) < 1e-5
    half = mixed(a, b, 0.5)
    correction = repair(run, known, (0.5, 0.5), half, lambda: x.split(40))
    after = correction.applied(half)
    assert shapes_of(after) == shapes_of(half)
    assert [w.dtype for w in after.values()] == [w.dtype for w in half.values()]
    assert {n for n in half if not torch.equal(half[n], after[n])} <= correction.tensors.keys()
    assert largest_change(after, half) > 1e-3


@pytest.mark.parametrize("name", PLAIN)
def test_a_mixture_of_a_network_with_itself_is_left_as_it_is(name: str) -> None:
    _, run, symmetry, a, _, x = parents(name)
    known = measure_parents(run, symmetry, [a, a], lambda: x.split(40))
    after = repair(run, known, (0.4, 0.6), a, lambda: x.split(40)).applied(a)
    assert largest_change(after, a) < 1e-5


def test_three_parents() -> None:
    module, run, symmetry, a, b, x = parents("named_mlp")
    c, shares = generic(module, 7), (0.2, 0.3, 0.5)
    known = measure_parents(run, symmetry, [a, b, c], lambda: [x])
    mean = {n: WeightedMean(shares)(n, [w, b[n], c[n]]) for n, w in a.items()}
    after = repair(run, known, shares, mean, lambda: [x]).applied(mean)
    own = measure_parents(run, symmetry, [after], lambda: [x]).totals[0]
    for layer in known.layers:
        goal = sum(s * p[layer].deviation for s, p in zip(shares, known.totals, strict=True))
        assert torch.allclose(own[layer].deviation, goal, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain_cnn_bn", ["fc1.weight", "fc2.weight"]),
        ("mlp_layernorm", ["6.weight"]),
        ("resnet_basic", ["fc.weight"]),
        # A pre-activation block adds its second convolution to the stream; no norm follows at once.
        ("preact_resnet", ["layer1.0.conv2.weight", "layer1.1.conv2.weight"]),
    ],
)
def test_layers_that_a_norm_follows_are_left_to_it(name: str, expected: list[str]) -> None:
    _, run, symmetry, a, b, x = parents(name)
    layers = list(measure_parents(run, symmetry, [a, b], lambda: [x]).layers)
    assert layers[:2] == expected


def test_norms_and_layers_are_corrected_together() -> None:
    _, run, symmetry, a, b, x = parents("plain_cnn_bn")
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    correction = repair(run, known, (0.5, 0.5), mixed(a, b, 0.5), lambda: [x])
    assert {"bn1.running_var", "bn2.running_mean", "fc1.bias"} <= correction.tensors.keys()
    assert correction.norms == ("bn1.running_mean", "bn2.running_mean")
    assert correction.layers == ("fc1.weight", "fc2.weight")


def small(bias: bool) -> tuple[Run, Symmetry, dict[str, Tensor], dict[str, Tensor], Tensor]:
    """A layer with a unit that is dead in both networks."""
    text = '[axes]\n"a.weight" = "h 3"\n"b.weight" = "2 h"' + ('\n"a.bias" = "h"' if bias else "")
    shapes = {"a.weight": (5, 3), "b.weight": (2, 5)} | ({"a.bias": (5,)} if bias else {})
    symmetry = Symmetry(parse_spec(text), shapes)
    made = []
    for seed in (0, 1):
        rng = seeded(seed)
        weights = {n: torch.randn(s, generator=rng) for n, s in shapes.items()}
        weights["a.weight"][2] = 0
        made.append(weights)

    def run(w: Weights, x: Tensor) -> Tensor:
        return functional.linear(functional.linear(x, w["a.weight"], w.get("a.bias")).relu(), w["b.weight"])

    return run, symmetry, made[0], made[1], 1 + torch.randn(90, 3, generator=seeded(5))


def test_dead_units_stay_as_they_are() -> None:
    run, symmetry, a, b, x = small(bias=True)
    half = mixed(a, b, 0.5)
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    after = repair(run, known, (0.5, 0.5), half, lambda: [x]).applied(half)
    assert torch.equal(after["a.weight"][2], half["a.weight"][2])
    assert torch.equal(after["a.bias"][2], half["a.bias"][2])
    assert not torch.allclose(after["a.bias"], half["a.bias"])


def test_a_layer_without_a_bias_is_rescaled_and_the_user_is_told() -> None:
    run, symmetry, a, b, x = small(bias=False)
    half = mixed(a, b, 0.5)
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    correction = repair(run, known, (0.5, 0.5), half, lambda: [x])
    assert len(correction.notes) == 1
    assert "2, such as 'a.weight'" in correction.notes[0]
    own = measure_parents(run, symmetry, [correction.applied(half)], lambda: [x]).totals[0]["a.weight"]
    goal = sum(parent["a.weight"].deviation / 2 for parent in known.totals)
    assert torch.allclose(own.deviation, goal, rtol=1e-4)


def test_weights_that_are_used_twice_are_left() -> None:
    _, symmetry, a, b, x = small(bias=False)

    def run(w: Weights, x: Tensor) -> Tensor:
        return sum(functional.linear(functional.linear(x, w["a.weight"]).relu(), w["b.weight"]) for _ in "ab")

    assert measure_parents(run, symmetry, [a, b], lambda: [x]).layers == ()


def test_a_table_that_is_looked_up_is_left_where_it_is_the_output_layer_too() -> None:
    text = '[axes]\n"table" = "7 d"\n"up.weight" = "h d"\n"down.weight" = "d h"'
    shapes = {"table": (7, 4), "up.weight": (6, 4), "down.weight": (4, 6)}
    symmetry = Symmetry(parse_spec(text), shapes)
    a, b = ({n: torch.randn(s, generator=seeded(i)) for n, s in shapes.items()} for i in (0, 1))

    def run(w: Weights, x: Tensor) -> Tensor:
        x = functional.embedding(x, w["table"])
        x = x + functional.linear(functional.linear(x, w["up.weight"]).relu(), w["down.weight"])
        return functional.linear(x, w["table"])

    x = torch.randint(7, (5, 3), generator=seeded(3))
    assert measure_parents(run, symmetry, [a, b], lambda: [x]).layers == ("up.weight", "down.weight")


def test_half_precision_comes_back_in_half_precision() -> None:
    _, run, symmetry, a, b, x = parents("plain_cnn_bn")
    a, b = ({n: w.bfloat16() if w.is_floating_point() else w for n, w in side.items()} for side in (a, b))
    half = mixed(a, b, 0.5)
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    after = repair(run, known, (0.5, 0.5), half, lambda: [x]).applied(half)
    assert {w.dtype for w in after.values()} == {torch.bfloat16, torch.int64}
    assert {w.dtype for w in reestimated(run, half, lambda: [x]).values()} == {torch.bfloat16}


def test_no_data_other_data_and_numbers_that_are_none_are_errors() -> None:
    _, run, symmetry, a, b, x = parents("plain_cnn_bn")
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    half = mixed(a, b, 0.5)
    with pytest.raises(DataError, match="no inputs"):
        reestimated(run, half, list)
    with pytest.raises(DataError, match="no inputs"):
        measure_parents(run, symmetry, [a, b], list)
    with pytest.raises(DataError, match="2 batches where the parents were run on 1"):
        repair(run, known, (0.5, 0.5), half, lambda: [x, x])
    with pytest.raises(NonFiniteError, match=r"'bn1\.running_mean'"):
        reestimated(run, half, lambda: [x * torch.inf])


def test_moments_add_up() -> None:
    x = torch.randn(4, 60, generator=seeded(0), dtype=torch.float64)
    parts = [Moments(p.shape[1], p.mean(1), p.var(1, correction=0)) for p in x.split([10, 35, 15], 1)]
    whole = parts[0] + parts[1] + parts[2]
    assert whole.count == 60
    assert torch.allclose(whole.mean, x.mean(1))
    assert torch.allclose(whole.var, x.var(1, correction=0))


def test_statistics_of_parents_name_their_batches() -> None:
    _, run, symmetry, a, b, x = parents("named_mlp")
    known = measure_parents(run, symmetry, [a, b], lambda: x.split(40))
    assert isinstance(known, ParentStatistics)
    assert [batch[0]["fc1.weight"].count for batch in known.batches] == [40, 24]
    assert known.totals[1]["fc1.weight"].count == 64


def test_a_weight_that_is_used_transposed_too_is_left() -> None:
    shapes = {"a.weight": (5, 3), "b.weight": (4, 3)}
    symmetry = Symmetry(parse_spec('[axes]\n"a.weight" = "h 3"\n"b.weight" = "k 3"'), shapes)
    a, b = ({n: torch.randn(s, generator=seeded(i)) for n, s in shapes.items()} for i in (0, 1))

    def run(w: Weights, x: Tensor) -> Tensor:
        back = functional.linear(functional.linear(x, w["a.weight"]).relu(), w["a.weight"].t())
        return functional.linear(back, w["b.weight"])

    x = torch.randn(40, 3, generator=seeded(3))
    assert measure_parents(run, symmetry, [a, b], lambda: [x]).layers == ("b.weight",)


def test_layers_that_share_a_bias_are_left() -> None:
    shapes = {"a.weight": (5, 3), "b.weight": (5, 5), "c.weight": (5, 5), "bias": (5,)}
    axes = '[axes]\n"a.weight" = "h 3"\n"b.weight" = "h h"\n"c.weight" = "h h"\n"bias" = "h"'
    symmetry = Symmetry(parse_spec(axes), shapes)
    a, b = ({n: torch.randn(s, generator=seeded(i)) for n, s in shapes.items()} for i in (0, 1))

    def run(w: Weights, x: Tensor) -> Tensor:
        for name in "ab":
            x = functional.linear(x, w[f"{name}.weight"], w["bias"]).relu()
        return functional.linear(x, w["c.weight"])

    x = torch.randn(40, 3, generator=seeded(3))
    assert measure_parents(run, symmetry, [a, b], lambda: [x]).layers == ("c.weight",)


def test_batchnorm_is_not_reestimated_from_single_values() -> None:
    _, run, _, a, _, x = parents("mlp_batchnorm")
    with pytest.raises(DataError, match=r"'1\.running_mean' has one value a channel in a batch"):
        reestimated(run, a, lambda: x.split(1))


def test_what_does_not_fit_its_type_is_an_error() -> None:
    run, symmetry, a, b, x = small(bias=False)
    x[:, 1] = 1.001 * x[:, 0]  # all but the same: half-way the weights cancel, and hardly anything is left
    a["a.weight"][0], b["a.weight"][0] = torch.tensor([[6e4, -3e4, 0], [0, -3e4, 0]])
    a, b = ({n: w.half() for n, w in side.items()} for side in (a, b))
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    with pytest.raises(NonFiniteError, match="overflows its type when it is repaired"):
        repair(run, known, (0.5, 0.5), mixed(a, b, 0.5), lambda: [x])


def test_no_gradients_are_kept() -> None:
    _, run, symmetry, a, b, x = parents("plain_cnn_bn")
    a, b = ({n: nn.Parameter(w) if w.is_floating_point() else w for n, w in one.items()} for one in (a, b))
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    found = repair(run, known, (0.5, 0.5), mixed(a, b, 0.5), lambda: [x])
    assert found.layers
    assert not any(w.requires_grad for w in found.tensors.values())


def test_a_parent_may_be_repaired_too() -> None:
    _, run, symmetry, a, b, x = parents("plain_cnn_bn")
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    assert repair(run, known, (1.0, 0.0), a, lambda: [x]).tensors == {}
    found = repair(run, known, (1.0, 0.0), a, lambda: [x], parents_too=True)
    expected = reestimated(run, a, lambda: [x])
    for name in expected:
        assert torch.equal(found.tensors[name], expected[name])
    near = repair(run, known, (1 - 1e-6, 1e-6), mixed(a, b, 1e-6), lambda: [x])
    assert largest_change(found.tensors, near.tensors) < 1e-3  # the end is where the way leads


@pytest.mark.parametrize("name", NORMED)
def test_statistics_that_training_has_stored_do_not_count(name: str) -> None:
    _, run, symmetry, a, b, x = parents(name)
    batches = [x[:40], x[40:]]
    own, other = ({**w, **reestimated(run, w, lambda: [x])} for w in (a, b))
    stored, fresh = (measure_parents(run, symmetry, pair, lambda: batches) for pair in ([a, b], [own, other]))
    for layer in stored.layers:
        for one, same in zip(stored.totals, fresh.totals, strict=True):
            assert torch.allclose(one[layer].deviation, same[layer].deviation, rtol=1e-5)

    # With one batch nothing but statistics is left to repair in a parent, and so in the ends of a way.
    known = measure_parents(run, symmetry, [a, b], lambda: [x])
    found = repair(run, known, (1.0, 0.0), a, lambda: [x], parents_too=True).applied(a)
    assert largest_change(found, own) < 1e-5
