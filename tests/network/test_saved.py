from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from deepalign_cli.errors import CheckpointError, DeepalignError, UsageError
from deepalign_cli.network.encoders import encoder_table
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.refiner import Refiner, RefinerConfig
from deepalign_cli.network.saved import FORMAT, NETWORK_KEY, load_network, save_network
from deepalign_cli.network.universal import Universal, UniversalConfig
from tests.network.builders import SEEDS, network

Parts = tuple[dict[str, Tensor], dict[str, str]]
CONFIG = UniversalConfig(channels=8, hidden=12, sketch=10, sweeps=1, out=6)
REFINER = RefinerConfig(rounds=2, iterations=4)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, DeepAlign]:
    path, model = tmp_path / "net.safetensors", DeepAlign(Universal(CONFIG))
    save_network(path, model, {"step": "7"})
    return path, model


def parts_of(path: Path) -> Parts:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def test_what_is_read_back_is_what_was_written(saved: tuple[Path, DeepAlign]) -> None:
    path, model = saved
    found = load_network(path)
    before, after = model.state_dict(), found.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert found.encoder.config == CONFIG
    assert encoder_table(found.encoder) == encoder_table(model.encoder)
    assert parts_of(path)[1]["deepalign.step"] == "7"


def test_what_is_read_back_predicts_the_same(saved: tuple[Path, DeepAlign]) -> None:
    path, model = saved
    symmetry, a = network("plain_cnn")
    weights = {n: w.float() for n, w in a.items()}
    with torch.no_grad():
        before, after = (m.encode(Graph(symmetry), weights, SEEDS) for m in (model, load_network(path)))
    assert all(torch.equal(before[g], after[g]) for g in before)


def test_a_refiner_is_written_and_read_back(tmp_path: Path) -> None:
    path, model = tmp_path / "net.safetensors", DeepAlign(Universal(CONFIG), Refiner(REFINER))
    save_network(path, model)
    found = load_network(path)
    before, after = model.state_dict(), found.state_dict()
    assert any(name.startswith("refiner.") for name in before)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert found.refiner is not None
    assert found.refiner.config == REFINER
    assert not any(p.requires_grad or p.is_meta for p in found.parameters())


@pytest.mark.parametrize(
    "text", [None, "not json", "3", "[1]", '{"rounds": 1}', '{"rounds": 2, "hidden": 5}', '{"colour": 1}',
             '{"rounds": "2"}', '{"rounds": 2, "iterations": -4}', '{"rounds": 0}']
)  # fmt: skip
def test_another_refiner_than_the_tensors_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, DeepAlign(Universal(CONFIG), Refiner(REFINER)))
    tensors, metadata = parts_of(path)
    del metadata["deepalign.refiner"]
    save_file(tensors, path, metadata if text is None else {**metadata, "deepalign.refiner": text})
    with pytest.raises(CheckpointError, match="is not a whole aligner"):
        load_network(path)


def test_of_earlier_refiners_only_what_did_nothing_is_left_out(tmp_path: Path) -> None:
    path, model = tmp_path / "net.safetensors", DeepAlign(Universal(CONFIG), Refiner(REFINER))
    save_network(path, model)
    tensors, metadata = parts_of(path)
    metadata["deepalign.refiner"] = '{"rounds": 2, "hidden": 0, "iterations": 4}'
    trust = {f"refiner.rounds.{i}.trust.{n}": torch.zeros(5) for i in range(2) for n in ("weight", "bias")}
    save_file({**tensors, **trust}, path, metadata)
    found = load_network(path).state_dict()
    assert all(torch.equal(found[n], w) for n, w in tensors.items())
    assert found.keys() == tensors.keys()

    trust["refiner.rounds.1.trust.bias"][3] = 1e-9
    save_file({**tensors, **trust}, path, metadata)
    with pytest.raises(CheckpointError, match=r"rounds\.1\.trust\.bias' is not zero"):
        load_network(path)

    metadata["deepalign.refiner"] = '{"rounds": 2, "hidden": 4, "iterations": 4}'
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match="hidden channels"):
        load_network(path)


def test_an_aligner_without_a_refiner_has_none(saved: tuple[Path, DeepAlign]) -> None:
    assert "deepalign.refiner" not in parts_of(saved[0])[1]
    assert load_network(saved[0]).refiner is None


def test_what_is_read_back_is_ready_to_be_used(saved: tuple[Path, DeepAlign]) -> None:
    found = load_network(saved[0])
    assert not found.training
    assert not any(p.requires_grad or p.is_meta for p in found.parameters())


def test_a_second_writing_is_the_same_file_and_needs_force(saved: tuple[Path, DeepAlign]) -> None:
    path, model = saved
    kept = path.read_bytes()
    with pytest.raises(UsageError):
        save_network(path, model)
    save_network(path, model, {"step": "7"}, force=True)
    assert path.read_bytes() == kept


def _format(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Parts:
    return tensors, {**metadata, NETWORK_KEY: f"{FORMAT}0"}


def _bare(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Parts:
    return tensors, {}


def _without_tensor(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Parts:
    return {n: w for n, w in tensors.items() if n != "encoder.leave.bias"}, metadata


def _with_tensor(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Parts:
    return {**tensors, "encoder.more": torch.ones(1)}, metadata


def _reshaped(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Parts:
    return {**tensors, "encoder.leave.bias": torch.ones(1)}, metadata


def _without_config(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Parts:
    return tensors, {k: v for k, v in metadata.items() if k != "deepalign.config"}


def _configured(**changes: object) -> Callable[[dict[str, Tensor], dict[str, str]], Parts]:
    def change(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Parts:
        table = json.loads(metadata["deepalign.config"])
        return tensors, {**metadata, "deepalign.config": json.dumps({**table, **changes})}

    return change


def _config_text(text: str) -> Callable[[dict[str, Tensor], dict[str, str]], Parts]:
    return lambda tensors, metadata: (tensors, {**metadata, "deepalign.config": text})


def _infinite(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Parts:
    return {
        **tensors,
        "encoder.leave.bias": torch.full_like(tensors["encoder.leave.bias"], torch.inf),
    }, metadata


@pytest.mark.parametrize(
    "spoil",
    [
        _bare,
        _format,
        _without_tensor,
        _with_tensor,
        _reshaped,
        _without_config,
        _configured(encoder="oracle"),
        _configured(channels=9),
        _configured(channels="8"),
        _configured(channels=-8),
        _configured(colour="red"),
        _config_text("not json"),
        _config_text("[]"),
        _config_text("null"),
        _configured(channels=10**6),
        _configured(sweeps=10**9),
        _configured(out=10**400),
        _config_text('{"encoder": "dws", "sizes": [' + "1000, " * 9999 + "10]}"),
        _infinite,
    ],
)
def test_what_is_no_whole_aligner_is_refused_in_one_sentence(
    saved: tuple[Path, DeepAlign], tmp_path: Path, spoil: Callable[..., Parts]
) -> None:
    tensors, metadata = spoil(*parts_of(saved[0]))
    path = tmp_path / "spoilt.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError) as caught:
        load_network(path)
    message = caught.value.message
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message
    assert caught.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing"):
        load_network(tmp_path / "missing.safetensors")


class Trap:
    """A pickle that would make a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_nothing_in_a_file_is_run(tmp_path: Path, suffix: str) -> None:
    mark, path = tmp_path / "sprung", tmp_path / f"trap{suffix}"
    torch.save({"w": torch.ones(1), "trap": Trap(mark)}, path)
    with pytest.raises(DeepalignError):
        load_network(path)
    assert not mark.exists()
    with path.open("rb") as file:
        torch.load(file, weights_only=False)
    assert mark.exists()  # the trap works
