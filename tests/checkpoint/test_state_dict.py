from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import CheckpointError
from tests.checkpoint.builders import saved

W = {"w": torch.ones(2)}


@pytest.mark.parametrize(
    ("value", "notes"),
    [
        (W, ()),
        ({"state_dict": W}, ("took 'state_dict'",)),
        ({"model_state_dict": W, "epoch": 3}, ("took 'model_state_dict' and left 'epoch'",)),
        ({"module": W}, ("took 'module'",)),
        ({"ema": {"w": torch.zeros(2)}, "model": W}, ("took 'model' and left 'ema'",)),
        ({"ema": {"module": W}}, ("took 'ema'", "took 'module'")),
        (
            {"state_dict": {"model": W}, "step": torch.tensor(3)},
            ("took 'state_dict' and left 'step'", "took 'model'"),
        ),
        ({"model": {}, "state_dict": W}, ("took 'state_dict' and left 'model'",)),
        ({**W, "epoch": 3}, ("1 entry that is not a tensor was left out",)),
        *[
            ({key: W, "epoch": 3}, (f"took '{key}' and left 'epoch'",))
            for key in (
                "net",
                "params",
                "model_state",
                "weights",
                "network",
                "generator",
                "policy",
                "student",
            )
        ],
        ({"ema_model": W}, ("took 'ema_model'",)),
        ({"params_ema": W}, ("took 'params_ema'",)),
        ({"net": W, "step": torch.tensor(3)}, ("took 'net' and left 'step'",)),
        ({"net": W, "optim": {"w": torch.ones(2)}}, ("took 'net' and left 'optim'",)),
        ({"net": W, "o": {"state": {0: W}, "param_groups": []}}, ("took 'net' and left 'o'",)),
        ({"a": {"b": {"net": W}}}, ("took 'a'", "took 'b'", "took 'net'")),
        ({**W, "a": 1, "b": None}, ("2 entries that are not tensors were left out",)),
    ],
)
def test_finds_the_weights(tmp_path: Path, value: object, notes: tuple[str, ...]) -> None:
    (tmp_path / "x.pt").write_bytes(saved(value))
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert checkpoint["w"].tolist() == [1, 1]
    assert list(checkpoint) == ["w"]
    assert checkpoint.notes == notes


def test_parts_of_one_network_are_joined(tmp_path: Path) -> None:
    actor, critic = torch.nn.Linear(3, 2).state_dict(), torch.nn.Linear(4, 1).state_dict()
    (tmp_path / "x.pt").write_bytes(saved({"actor": actor, "critic": critic, "step": 7}))
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert list(checkpoint) == ["actor.weight", "actor.bias", "critic.weight", "critic.bias"]
    assert checkpoint.notes == ("took 'actor', 'critic' as one network and left 'step'",)


def test_mappings_within_a_state_dict_continue_its_names(tmp_path: Path) -> None:
    value = {"stem": torch.ones(2), "layer": {"0": {"w": torch.ones(3), "b": torch.ones(1)}, "n": 3}}
    (tmp_path / "x.pt").write_bytes(saved(value))
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert list(checkpoint) == ["stem", "layer.0.w", "layer.0.b"]
    assert checkpoint.notes == ("1 entry that is not a tensor was left out",)


TWICE = {"params": W, "params_ema": {"w": torch.zeros(2)}, "iter": 3}


def test_the_same_tensors_twice_need_a_key(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(saved(TWICE))
    with pytest.raises(CheckpointError, match="'params', 'params_ema'") as caught:
        open_checkpoint(tmp_path / "x.pt")
    assert "--key params" in caught.value.hint
    assert open_checkpoint(tmp_path / "x.pt", "params")["w"].tolist() == [1, 1]
    assert open_checkpoint(tmp_path / "x.pt", "params_ema")["w"].tolist() == [0, 0]
    assert list(open_checkpoint(tmp_path / "x.pt", ".")) == ["params.w", "params_ema.w"]


@pytest.mark.parametrize("key", ["ema", "ema.module", "a.b"])
def test_a_key_is_a_path(tmp_path: Path, key: str) -> None:
    inner = {"w": torch.zeros(2)}
    (tmp_path / "x.pt").write_bytes(saved({"model": W, "ema": {"module": inner}, "a.b": inner}))
    checkpoint = open_checkpoint(tmp_path / "x.pt", key)
    assert [tensor.tolist() for tensor in checkpoint.values()] == [[0, 0]]


@pytest.mark.parametrize("key", ["nothing", "ema.nothing", "epoch", "model.w", "mod"])
def test_a_key_that_is_not_there(tmp_path: Path, key: str) -> None:
    (tmp_path / "x.pt").write_bytes(saved({"model": W, "ema": W, "epoch": 3}))
    with pytest.raises(CheckpointError, match="no state dict") as caught:
        open_checkpoint(tmp_path / "x.pt", key)
    assert "--key" in caught.value.hint


@pytest.mark.parametrize("width", [1, 1000])
def test_a_mapping_that_holds_itself_has_an_end(tmp_path: Path, width: int) -> None:
    value: dict[str, object] = {f"k{i}": None for i in range(width)}
    for key in value:
        value[key] = value
    (tmp_path / "x.pt").write_bytes(saved(value))
    with pytest.raises(CheckpointError, match="no state dict" if width == 1 else "more than 4000000 entries"):
        open_checkpoint(tmp_path / "x.pt")
