from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deepalign_cli.errors import CheckpointError, MismatchError, UsageError
from deepalign_cli.models.calls import Calls
from deepalign_cli.models.exported import load_program
from deepalign_cli.models.module import run_module
from tests import nets
from tests.models.builders import generic, inputs


def exported(path: Path, module: nn.Module, shape: tuple[int, ...]) -> Path:
    batch = torch.export.Dim("batch")
    example = (torch.randn(3, *shape),)
    torch.export.save(torch.export.export(module, example, dynamic_shapes=({0: batch},)), path)
    return path


def shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(w.shape) for name, w in weights.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp_layernorm", "plain_cnn_bn", "resnet_basic"])
def test_a_program_runs_with_other_weights_and_batches(kind: str, tmp_path: Path) -> None:
    module, shape = nets.ALL[kind]()
    program, _ = load_program(exported(tmp_path / "net.pt2", module.eval(), shape))
    module, weights = generic(module)
    run = run_module(program, shapes(weights))
    for count in (1, 7):
        x = inputs(shape, count)
        with torch.no_grad():
            assert torch.allclose(run(weights, x), module(x), rtol=0, atol=1e-12)


class Names(TorchFunctionMode):
    """The names of the weights that functions are called with."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.names, self.seen = {id(w): name for name, w in weights.items()}, dict[str, str]()

    def __torch_function__(self, func: object, types: object, args: tuple[object, ...] = (),
                           kwargs: dict[str, object] | None = None) -> object:  # fmt: skip
        for value in (*args, *(kwargs or {}).values()):
            if id(value) in self.names:
                self.seen[self.names[id(value)]] = str(func)
        assert callable(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_its_functions_are_given_the_very_tensors(tmp_path: Path) -> None:
    module, shape = nets.ALL["plain_cnn_bn"]()
    program, _ = load_program(exported(tmp_path / "net.pt2", module.eval(), shape))
    module, weights = generic(module)
    run = run_module(program, shapes(weights))
    with Names(weights) as mode:
        run(weights, inputs(shape))
    assert mode.seen.keys() == {n for n in weights if "num_batches" not in n}
    assert mode.seen["conv1.weight"] == "aten.conv2d.default"
    assert mode.seen["bn1.running_mean"] == "aten.batch_norm.default"
    assert mode.seen["fc1.weight"] == "aten.linear.default"


@pytest.mark.slow
def test_one_of_another_network_is_told(tmp_path: Path) -> None:
    program, _ = load_program(exported(tmp_path / "net.pt2", nets.mlp().eval(), (12,)))
    with pytest.raises(MismatchError, match=r"'0.weight' \(\(16, 12\) in the model, absent in the file\)"):
        run_module(program, {"other": (3,)})


@pytest.mark.slow
@pytest.mark.parametrize("module", [nets.mlp_batchnorm(), nn.Sequential(nn.Linear(12, 3), nn.Dropout())])
def test_one_that_was_exported_in_training_mode_is_refused(tmp_path: Path, module: nn.Module) -> None:
    path = exported(tmp_path / "net.pt2", module.train(), (12,))
    with pytest.raises(UsageError, match="was exported in training mode") as caught:
        load_program(path)
    assert "model.eval()" in caught.value.hint


def test_what_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no exported program"):
        load_program(tmp_path / "net.pt2")
    (tmp_path / "net.pt2").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(CheckpointError, match="is not an exported program") as caught:
        load_program(tmp_path / "net.pt2")
    assert "\n" not in caught.value.message


def test_one_for_batches_of_one_size_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(nets.mlp().eval(), (torch.randn(3, 12),))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(UsageError, match="was exported for batches of 3 and no others") as caught:
        load_program(tmp_path / "net.pt2")
    assert "torch.export.Dim('batch')" in caught.value.hint


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_rows_of_an_embedding_bag_count_as_looked_up(
    frozen: bool, decomposed: bool, tmp_path: Path
) -> None:
    class LookUps(Calls):
        seen: tuple[str, ...] = ()

        def looked_up(self, name: str) -> None:
            self.seen += (name,)

    module = nn.Sequential(nn.EmbeddingBag(9, 4), nn.Linear(4, 2)).eval().requires_grad_(not frozen)
    tokens = torch.arange(15).reshape(3, 5) % 9
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(module, (tokens,), dynamic_shapes=batch, strict=False)
    program = program.run_decompositions() if decomposed else program
    calls = {str(node.target) for node in program.graph.nodes if "embedding_bag" in str(node.target)}
    kind = "_embedding_bag_forward_only.default" if frozen else "_embedding_bag.default"
    assert calls == {f"aten.{kind if decomposed else 'embedding_bag.padding_idx'}"}
    torch.export.save(program, tmp_path / "net.pt2")
    weights = {name: w.detach() for name, w in module.state_dict().items()}
    watching = LookUps(weights)
    watching.run(run_module(load_program(tmp_path / "net.pt2")[0], shapes(weights)), tokens)
    assert watching.seen == ("0.weight",)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(3, 5, bias=False), nn.Linear(5, 5), nn.Linear(3, 5)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.middle(self.first(x).relu()) @ self.last.weight


def test_tied_tensors_that_differ_in_the_checkpoint_are_refused(tmp_path: Path) -> None:
    """As they are with a factory."""
    net, batch = Tied().eval(), torch.export.Dim("batch")
    exported = torch.export.export(net, (torch.zeros(2, 3),), dynamic_shapes=({0: batch},), strict=False)
    torch.export.save(exported, tmp_path / "x.pt2")
    program, _ = load_program(tmp_path / "x.pt2")
    weights = {name: w.detach() for name, w in net.state_dict().items()}
    run = run_module(program, {name: tuple(w.shape) for name, w in weights.items()})
    assert torch.allclose(run(weights, torch.ones(2, 3)), net(torch.ones(2, 3)))
    with pytest.raises(MismatchError, match="are one tensor in the model but differ in the checkpoint"):
        run({**weights, "last.weight": weights["last.weight"] + 1}, torch.ones(2, 3))
