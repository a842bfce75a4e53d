"""Layers are known by their weights, however the network calls them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from deepalign_cli.models.calls import Call, Calls, LayerKind, NormCall
from deepalign_cli.models.run import Run
from deepalign_cli.models.runnable import Runnable
from deepalign_cli.symmetry.symmetry import Weights
from tests import nets
from tests.symmetry.builders import generic, seeded

NO_TRAINING = torch.ops.aten._native_batch_norm_legit_no_training.default
NAMES = ["mlp_batchnorm", "plain_cnn_bn", "resnet_basic", "transformer_postnorm", "vision_transformer"]


class Seen(Calls):
    """Writes down what it is told of."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.read: dict[str, Tensor] = {}
        self.layers: dict[str, Call] = {}
        self.norms: list[str] = []
        self.entered = 0

    def reads(self, call: Call) -> None:
        self.read[call.name] = call.input

    def layer(self, call: Call) -> Tensor:
        self.layers[call.name] = call
        return call.output()

    def batch_norm(self, call: NormCall) -> None:
        self.norms.append(call.mean)

    def normalised(self, x: Tensor) -> None:
        self.entered += 1


def made(name: str) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    """A network in evaluation mode, its weights, and a batch of inputs."""
    module, shape = nets.ALL[name]()
    weights = generic(module.eval())
    return module, weights, torch.randn(3, *shape, generator=seeded(1))


def called(module: nn.Module) -> Run:
    def run(weights: Weights, x: Tensor) -> Tensor:
        out: Tensor = functional_call(module, dict(weights), (x,))
        return out

    return run


def exported(module: nn.Module, x: Tensor) -> Run:
    return called(torch.export.export(module, (x,)).module())


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_of_a_module_is_seen_and_the_output_is_the_modules(name: str) -> None:
    module, weights, x = made(name)
    seen = Seen(weights)
    out = seen.run(called(module), x)

    assert torch.allclose(out, module(x).detach(), atol=1e-5)
    layers = [n for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert seen.layers.keys() == {f"{n}.weight" for n in layers}
    kinds = nn.BatchNorm1d | nn.BatchNorm2d
    assert {*seen.norms} == {f"{n}.running_mean" for n, m in module.named_modules() if isinstance(m, kinds)}
    norms = [m for m in module.modules() if isinstance(m, kinds | nn.LayerNorm)]
    assert seen.entered == len(norms)
    attention = [n for n, m in module.named_modules() if isinstance(m, nn.MultiheadAttention)]
    assert {f"{n}.in_proj_weight" for n in attention} <= seen.read.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp_batchnorm", "plain_cnn_bn", "transformer_prenorm"])
def test_an_exported_program_is_read_as_its_module_is(name: str) -> None:
    module, weights, x = made(name)
    sides = [Seen(weights), Seen(weights)]
    sides[0].run(called(module), x)
    sides[1].run(exported(module, x), x)

    assert sides[0].read.keys() == sides[1].read.keys()
    for layer, read in sides[0].read.items():
        assert torch.allclose(read.sum(), sides[1].read[layer].sum(), atol=1e-3), layer
    assert sides[0].norms == sides[1].norms
    assert sides[0].entered == sides[1].entered
    for layer, call in sides[0].layers.items():
        assert (call.bias, call.layer) == (sides[1].layers[layer].bias, sides[1].layers[layer].layer)


def test_what_the_output_projection_of_attention_reads() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    weights = generic(attention)
    x = torch.randn(3, 5, 8, generator=seeded(1))
    seen = Seen(weights)
    seen.run(lambda w, x: functional_call(attention, dict(w), (x, x, x), {"need_weights": False})[0], x)

    q, k, v = (
        part.unflatten(-1, (2, 4)).transpose(1, 2)
        for part in functional.linear(x, weights["in_proj_weight"], weights["in_proj_bias"]).chunk(3, -1)
    )
    heads = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert torch.allclose(seen.read["out_proj.weight"].transpose(0, 1), heads, atol=1e-5)
    assert torch.equal(seen.read["in_proj_weight"].transpose(0, 1), x)


def test_attention_between_two_sequences_has_no_single_input() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    seen = Seen(generic(attention))
    memory = torch.randn(3, 4, 8)
    seen.run(lambda w, x: functional_call(attention, dict(w), (x, memory, memory))[0], torch.randn(3, 5, 8))
    assert seen.read.keys() == {"out_proj.weight"}


@pytest.mark.parametrize(
    "product",
    [
        lambda x, w, b: x @ w,
        lambda x, w, b: torch.matmul(x, w),
        lambda x, w, b: x.mm(w),
        lambda x, w, b: torch.addmm(b, x, w),
        lambda x, w, b: torch.ops.aten.addmm.default(b, x, w),
    ],
)
def test_a_weight_stored_input_first_is_read_on_its_first_axis(
    product: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    weights = {"w": torch.randn(4, 6), "b": torch.randn(6)}
    seen = Seen(weights)
    seen.run(lambda w, x: product(x, w["w"], w["b"]), torch.randn(3, 4))
    call = seen.layers["w"]
    assert (call.layer, call.read, call.fits) == (LayerKind.MATMUL, 0, True)
    assert torch.equal(call.output(), product(call.input, weights["w"], weights["b"]))


def test_weights_that_were_changed_first_and_transposed_convolutions_are_passed_over() -> None:
    weights = {"a": torch.randn(6, 4), "b": torch.randn(4, 6, 3), "c": torch.randn(4, 4)}

    def run(w: Weights, x: Tensor) -> Tensor:
        x = functional.linear(x, 2 * w["a"])
        x = functional.conv_transpose1d(x.unsqueeze(1).expand(-1, 4, -1), w["b"])
        return x.flatten(1)[:, :4] @ (w["c"] @ w["c"])

    seen = Seen(weights)
    seen.run(run, torch.randn(3, 4))
    assert not seen.read


def test_a_grouped_convolution_does_not_fit() -> None:
    seen = Seen({"w": torch.randn(8, 2, 3, 3)})
    seen.run(lambda w, x: functional.conv2d(x, w["w"], groups=2), torch.randn(3, 4, 5, 5))
    assert not seen.layers["w"].fits


class Halved(Calls):
    """Runs every BatchNorm with statistics 0 and 1/4, so that its output doubles."""

    def batch_norm(self, call: NormCall) -> Tensor:
        n = call.input.shape[1]
        return call.with_statistics(torch.zeros(n), torch.full((n,), 0.25))


@pytest.mark.parametrize(
    "norm",
    [
        lambda x, m, v: functional.batch_norm(x, m, v),
        lambda x, m, v: torch.batch_norm(x, None, None, m, v, False, 0.1, 1e-5, False),
        lambda x, m, v: torch.ops.aten.batch_norm.default(x, None, None, m, v, False, 0.1, 1e-5, False),
        lambda x, m, v: NO_TRAINING(x, None, None, m, v, 0.1, 1e-5)[0],
    ],
)
def test_batchnorm_can_be_run_with_other_statistics(
    norm: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    weights = {"bn.running_mean": torch.zeros(4), "bn.running_var": torch.ones(4)}
    x = torch.randn(3, 4)
    out = Halved(weights).run(lambda w, x: norm(x, w["bn.running_mean"], w["bn.running_var"]), x)
    assert torch.allclose(out, 2 * x, rtol=1e-3)


def test_narrow_types_are_run_in_float32_and_whole_numbers_are_left() -> None:
    seen = Seen({"w": torch.randn(4, 4).bfloat16()})
    out = seen.run(lambda w, x: functional.linear(x, w["w"]), torch.randn(3, 4).double())
    assert out.dtype == torch.float32
    table = {"table": torch.randn(7, 4), "w": torch.randn(2, 4)}
    seen = Seen(table)
    seen.run(
        lambda w, x: functional.linear(functional.embedding(x, w["table"]), w["w"]), torch.tensor([[1, 6]])
    )
    assert seen.read["w"].shape == (1, 2, 4)


def test_weights_of_two_types_are_run_in_the_wider_one() -> None:
    weights = {"a": torch.randn(5, 4).double(), "b": torch.randn(2, 5)}
    seen = Seen(weights)
    run = Runnable(lambda w, x: functional.linear(functional.linear(x, w["a"]).relu(), w["b"]))
    assert seen.run(run, torch.randn(3, 4)).dtype == torch.float64
    assert seen.layers.keys() == {"a", "b"}


def test_other_uses_of_weights_are_told() -> None:
    class Used(Seen):
        def __init__(self, weights: Weights) -> None:
            super().__init__(weights)
            self.others: list[str] = []

        def used(self, name: str) -> None:
            self.others.append(name)

    def run(w: Weights, x: Tensor) -> Tensor:
        assert w["a"].shape == (5, 4)
        assert w["a"].float().contiguous() is w["a"]
        x = functional.layer_norm(functional.linear(x, w["a"]), (5,), w["n"])
        return functional.linear(x, torch.cat([w["b"], w["c"]])) @ w["d"].T

    shapes = {"a": (5, 4), "n": (5,), "b": (2, 5), "c": (3, 5), "d": (6, 5)}
    seen = Used({n: torch.randn(s) for n, s in shapes.items()})
    seen.run(run, torch.randn(3, 4))
    assert seen.others == ["b", "c", "d"]
    assert seen.layers.keys() == {"a"}
