from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.models.module import make_module, output_of, run_module
from tests import nets
from tests.models.builders import generic, inputs
from tests.symmetry.builders import seeded


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Linear(3, 2), nn.Dropout())\n"
    )
    return path


def test_a_model_comes_in_evaluation_mode(file: Path) -> None:
    assert not make_module(f"{file}:make")[0].training


def test_what_is_no_module_is_named(file: Path) -> None:
    file.write_text("def make():\n    return {}\n")
    with pytest.raises(UsageError, match=r"returned dict, not an nn\.Module"):
        make_module(f"{file}:make")


def test_what_does_not_fit_is_listed_and_counted() -> None:
    with pytest.raises(MismatchError) as caught:
        run_module(nn.Linear(3, 2), {"weight": (2, 4), "other": (2,)})
    assert "'weight' ((2, 3) in the model, (2, 4) in the file)" in caught.value.message
    assert "'bias' ((2,) in the model, absent in the file)" in caught.value.message
    assert "'other' (absent in the model, (2,) in the file)" in caught.value.message

    with pytest.raises(MismatchError, match="and 4 more"):
        run_module(nets.mlp(), {})


class Tied(nn.Module):
    """An embedding that is also the head, a constant that no state dict holds, and one that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.embed(tokens) * self.scale)
        return out


def shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(w.shape) for name, w in weights.items()}


def expected(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = module(x)
    return out


@pytest.mark.parametrize("kind", nets.ALL)
def test_a_module_runs_with_other_weights_than_its_own(kind: str) -> None:
    module, shape = nets.ALL[kind]()
    module, weights = generic(module)
    x = inputs(shape)
    run = run_module(nets.ALL[kind]()[0].eval(), shapes(weights))

    with torch.no_grad():
        found = run(weights, x)
    assert torch.allclose(found, expected(module, x), rtol=0, atol=1e-12)


def test_a_layer_is_given_the_very_tensors() -> None:
    seen = []

    class Layer(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(self.weight)
            return super().forward(x)

    weights = {"weight": torch.randn(2, 3), "bias": torch.randn(2)}
    run_module(Layer(3, 2), shapes(weights))(weights, torch.randn(4, 3))
    assert seen[0] is weights["weight"]


def test_the_weights_type_may_change_from_call_to_call() -> None:
    module, weights = generic(nets.mlp_batchnorm())
    x = inputs((12,))
    run = run_module(nets.mlp_batchnorm().eval(), shapes(weights))
    for dtype in (torch.float32, torch.float64, torch.float32):
        cast = {n: w.to(dtype) if w.is_floating_point() else w for n, w in weights.items()}
        assert run(cast, x.to(dtype)).dtype == dtype
        assert torch.allclose(run(cast, x.to(dtype)).double(), expected(module, x), atol=1e-4)


@pytest.mark.parametrize("names", [("embed.weight", "head.weight"), ("embed.weight",), ("head.weight",)])
def test_tied_tensors_may_be_there_once_or_twice(names: tuple[str, ...]) -> None:
    module = Tied().double()
    w = torch.randn(7, 4, dtype=torch.float64)
    module.embed.weight.data.copy_(w)
    given = {name: w.clone() for name in names}
    run = run_module(Tied(), shapes(given))

    tokens = torch.randint(7, (5, 3))
    assert torch.allclose(run(given, tokens), expected(module, tokens), rtol=0, atol=1e-12)


def test_tied_tensors_that_differ_are_no_checkpoint_of_the_model() -> None:
    given = {"embed.weight": torch.randn(7, 4), "head.weight": torch.randn(7, 4)}
    with pytest.raises(MismatchError, match=r"'embed.weight' and 'head.weight' are one tensor"):
        run_module(Tied(), shapes(given))(given, torch.randint(7, (5, 3)))


def test_tied_tensors_that_are_all_missing_are_missed() -> None:
    with pytest.raises(MismatchError, match=r"'embed.weight' \(\(7, 4\) in the model, absent in the file\)"):
        run_module(Tied(), {})


def test_a_buffer_that_no_state_dict_holds_may_be_in_a_checkpoint() -> None:
    given = {"embed.weight": torch.randn(7, 4), "scale": torch.zeros(4)}
    assert not run_module(Tied(), shapes(given))(given, torch.randint(7, (5, 3))).any()
    with pytest.raises(MismatchError, match=r"'scale' \(\(4,\) in the model, \(5,\) in the file\)"):
        run_module(Tied(), {"embed.weight": (7, 4), "scale": (5,)})


def test_counters_of_batches_may_be_left_out_but_no_statistics() -> None:
    module, weights = generic(nets.mlp_batchnorm())
    bare = {n: w for n, w in weights.items() if "num_batches" not in n}
    x = inputs((12,))
    run = run_module(nets.mlp_batchnorm().eval(), shapes(bare))
    assert torch.allclose(run(bare, x), expected(module, x), rtol=0, atol=1e-12)

    del bare["1.running_mean"]
    with pytest.raises(MismatchError, match=r"'1.running_mean' \(\(16,\) in the model, absent"):
        run_module(nets.mlp_batchnorm(), shapes(bare))


def test_a_wrappers_prefix_may_stand_before_the_models_names() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nets.mlp()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.model(x)
            return out

    module, weights = generic(nets.mlp())  # as a checkpoint reads `model.0.weight`
    run = run_module(Wrapper(), shapes(weights))
    x = inputs((12,))
    assert torch.allclose(run(weights, x), expected(module, x), rtol=0, atol=1e-12)


class ChannelsLast(nn.Module):
    """A network that runs its convolution and GroupNorm in `channels_last`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 1), nn.GroupNorm(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x).contiguous(memory_format=torch.channels_last))
        return out


def test_group_norm_in_channels_last_keeps_its_digits() -> None:
    module = ChannelsLast()
    weights = {name: w.detach().clone() for name, w in module.state_dict().items()}
    weights["conv.bias"] += 300  # the mean of a group is large beside its deviation
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    run = run_module(ChannelsLast(), shapes(weights))
    exact = run({name: w.double() for name, w in weights.items()}, x.double())
    assert torch.allclose(run(weights, x).double(), exact, rtol=0, atol=1e-3 * exact.abs().max())


def test_a_compiled_part_of_the_model_does_not_change_its_names() -> None:
    module, weights = generic(nets.mlp())
    compiled = nets.mlp()
    compiled[2] = torch.compile(compiled[2], backend="eager")
    assert any(name.startswith("2._orig_mod.") for name in compiled.state_dict())
    x = inputs((12,))
    run = run_module(compiled, shapes(weights))
    assert torch.allclose(run(weights, x), expected(module, x), rtol=0, atol=1e-12)


def test_recurrent_layers_run_with_the_weights_that_are_given() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.lstm(x)[0][:, -1])
            return out

    module, weights = generic(Recurrent())
    run = run_module(Recurrent().eval(), shapes(weights))
    x = inputs((4, 3))
    assert torch.allclose(run(weights, x), expected(module, x), rtol=0, atol=1e-12)


def test_a_layer_without_sizes_is_named() -> None:
    with pytest.raises(UsageError, match=r"'weight' has no shape yet"):
        run_module(nn.LazyLinear(3), {"weight": (3, 2)})


@pytest.mark.parametrize("out", [{"logits": 1, "x": 0}, {"x": 1, "y": 0}, (1, 0), [1, 0]])
def test_the_outputs_are_found_in_what_a_module_returns(
    out: dict[str, int] | tuple[int, ...] | list[int],
) -> None:
    made = {k: torch.full((2,), v) for k, v in out.items()} if isinstance(out, dict) else [torch.ones(2)]
    assert output_of(type(out)(made)).equal(torch.ones(2).to(output_of(made).dtype))


@pytest.mark.parametrize("out", [None, 3, {}, (), "text", {"x": 3}])
def test_what_holds_no_tensor_is_named(out: object) -> None:
    with pytest.raises(UsageError, match=f"returned {type(out).__name__}, not a tensor"):
        output_of(out)


class Turning(nn.Module):
    """A layer whose outputs are turned in the complex plane, as rotary positions are."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.register_buffer("angles", torch.polar(torch.ones(2), torch.tensor([1.0, 2.0])), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.view_as_complex(self.fc(x).unflatten(1, (2, 2))) * self.angles
        return torch.view_as_real(turned).flatten(1)


@pytest.mark.filterwarnings("error")
def test_complex_buffers_stay_complex() -> None:
    module = Turning()
    weights = {n: w.clone() for n, w in module.state_dict().items()}
    x = torch.randn(4, 3, generator=seeded(1))
    found = run_module(Turning(), shapes(weights))(weights, x)
    assert torch.allclose(found, expected(module, x), atol=1e-6)


def test_what_no_checkpoint_holds_is_never_rounded() -> None:
    module = Tied().double()
    module.scale.copy_(torch.tensor([1.1, 2.3, 3.7, 4.9], dtype=torch.float64))
    own, exact = module.scale, module.scale.clone()
    weights = {"embed.weight": torch.randn(7, 4, dtype=torch.float64)}
    tokens = torch.randint(7, (5, 3))
    run = run_module(module, shapes(weights))
    before = run(weights, tokens)
    assert run({"embed.weight": weights["embed.weight"].float()}, tokens).dtype == torch.float32
    assert torch.equal(run(weights, tokens), before)
    assert module.scale is own
    assert torch.equal(own, exact)


def test_one_module_may_be_run_for_two_checkpoints() -> None:
    shared = nets.mlp_batchnorm().eval()
    made = [generic(nets.mlp_batchnorm(), seed) for seed in (0, 1)]
    runs = [run_module(shared, shapes(weights)) for _, weights in made]
    x = inputs((12,))
    for run, (module, weights) in zip((*runs, *runs), (*made, *made), strict=True):
        assert torch.allclose(run(weights, x), expected(module, x), rtol=0, atol=1e-12)


def test_a_prefix_is_found_where_only_a_tied_tensor_does_not_have_it() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4))
            self.lm_head = nn.Linear(4, 7, bias=False)
            self.lm_head.weight = self.model[0].weight

        def forward(self, tokens: Tensor) -> Tensor:
            out: Tensor = self.lm_head(self.model(tokens))
            return out

    module, weights = generic(Head())
    tokens = torch.randint(7, (5, 3))
    bare = {n.removeprefix("model."): w for n, w in weights.items() if n.startswith("model.")}
    for given in (bare, {n: w for n, w in weights.items() if n.startswith("model.")}, weights):
        run = run_module(Head(), shapes(given))
        assert torch.allclose(run(given, tokens), expected(module, tokens), rtol=0, atol=1e-12)
