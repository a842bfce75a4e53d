"""Networks in memory as checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.memory import MemoryCheckpoint
from deepalign_cli.errors import CheckpointError
from tests.checkpoint.builders import DTYPES


def opened(**tensors: Tensor) -> MemoryCheckpoint:
    return MemoryCheckpoint(tensors, "A")


def test_it_is_what_a_file_of_the_same_network_is(tmp_path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    torch.save(net.state_dict(), tmp_path / "a.pt")
    memory, file = MemoryCheckpoint(net.state_dict(), "A"), open_checkpoint(tmp_path / "a.pt")
    assert list(memory) == list(file)
    assert memory.ordered
    for name, info in memory.infos.items():
        other = file.infos[name]
        assert (info.dtype, info.shape, info.tied_to) == (other.dtype, other.shape, other.tied_to)
        assert torch.equal(memory[name], file[name])
    assert (memory.called, memory.files, memory.metadata, memory.notes) == ("A", (), {}, ())


def test_prefixes_are_left_out_and_stored_names_kept() -> None:
    memory = opened(**{"module.fc.weight": torch.ones(2), "module.fc.bias": torch.ones(1)})
    assert list(memory) == ["fc.weight", "fc.bias"]
    assert [info.stored_name for info in memory.infos.values()] == ["module.fc.weight", "module.fc.bias"]
    assert memory["fc.bias"].tolist() == [1]


def test_tied_tensors_are_known_by_their_place() -> None:
    shared = torch.ones(3, 3)
    memory = opened(
        a=shared, b=torch.ones(3, 3), c=shared, d=shared.T, e=shared[:2], f=torch.ones(0), g=torch.ones(0)
    )
    assert {name: info.tied_to for name, info in memory.infos.items()} == {
        "a": None, "b": None, "c": "a", "d": None, "e": None, "f": None, "g": None,
    }  # fmt: skip


def test_tensors_that_are_made_when_asked_for_are_not_taken_for_tied() -> None:
    class Made(Mapping[str, Tensor]):
        asked = 0

        def __getitem__(self, name: str) -> Tensor:
            self.asked += 1
            return torch.full((64,), float(name))

        def __iter__(self) -> Iterator[str]:
            return iter("123")

        def __len__(self) -> int:
            return 3

    made = Made()
    memory = MemoryCheckpoint(made, "A")
    assert [info.tied_to for info in memory.infos.values()] == [None] * 3
    assert [float(w[0]) for w in memory.values()] == [1, 2, 3]
    assert made.asked == 3


def test_gradients_stay_with_their_owner() -> None:
    weight = nn.Parameter(torch.ones(2))
    assert not opened(w=weight)["w"].requires_grad
    assert weight.requires_grad


@pytest.mark.parametrize("code", DTYPES)
def test_every_type_has_its_code_and_a_hash(code: str) -> None:
    memory = opened(w=torch.zeros(2, 2).to(DTYPES[code]), scalar=torch.zeros(()).to(DTYPES[code]))
    assert {info.dtype for info in memory.infos.values()} == {code}
    assert len(memory.sha256()) == 64


def test_the_hash_is_of_names_types_shapes_and_values() -> None:
    w = torch.arange(6.0).reshape(2, 3)
    others = [opened(v=w), opened(w=w.int()), opened(w=w.reshape(3, 2)), opened(w=w + 1)]
    assert len({opened(w=w).sha256(), *(other.sha256() for other in others)}) == 5
    assert opened(w=w.T.contiguous().T).sha256() == opened(w=w).sha256()


def test_what_is_no_tensor_is_left_out_with_a_note() -> None:
    memory = MemoryCheckpoint({"w": torch.ones(2), "epoch": 3, "extra": {}}, "A")  # type: ignore[dict-item]
    assert list(memory) == ["w"]
    assert memory.notes == ("left out what is not a tensor: 'epoch', 'extra'",)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "A: it holds no tensors"),
        ({"state_dict": {"w": torch.ones(2)}, "epoch": 1}, "it holds no tensors"),
        ({"w": torch.ones(2, device="meta")}, "tensor 'w' has no values yet"),
        (nn.LazyLinear(3).state_dict(), "tensor 'weight' has no values yet"),
        ({"w": torch.ones(2, 2).to_sparse()}, "is torch.float32, torch.sparse_coo, which deepalign"),
        ({"w": torch.zeros(2, dtype=torch.complex128)}, "is torch.complex128"),
        ({"w\n": torch.ones(2)}, "characters that cannot be printed"),
        ({3: torch.ones(2)}, ", not text"),
    ],
)
def test_what_is_no_network_is_refused(tensors: Mapping[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        MemoryCheckpoint(dict(tensors), "A")
    assert caught.value.hint
