from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.gathered_rows import GatheredRows

INDEX = torch.tensor([3, 4, 0, -1, -1, 1, 2, -1, 4])


def opened(tmp_path: Path, **tensors: Tensor) -> dict[str, Tensor]:
    save_file(tensors, tmp_path / "x.safetensors")
    return tensors


@pytest.fixture
def view(tmp_path: Path) -> tuple[GatheredRows, dict[str, Tensor]]:
    tensors = opened(
        tmp_path, w=torch.randn(5, 3), b=torch.randn(5), late=torch.randn(2, 5), other=torch.randn(4)
    )
    axes = {"w": 0, "b": 0, "late": 1}
    return GatheredRows(open_checkpoint(tmp_path / "x.safetensors"), axes, INDEX, ["a note"]), tensors


def gathered(w: Tensor, axis: int) -> Tensor:
    rows = w.movedim(axis, 0)
    return torch.stack([rows[i] if i >= 0 else torch.zeros_like(rows[0]) for i in INDEX]).movedim(0, axis)


def test_rows_in_another_order_and_rows_of_zeros(view: tuple[GatheredRows, dict[str, Tensor]]) -> None:
    seen, tensors = view
    for name, axis in (("w", 0), ("b", 0), ("late", 1)):
        wanted = gathered(tensors[name], axis)
        assert seen.infos[name].shape == tuple(wanted.shape)
        assert seen[name].equal(wanted)
    assert seen["other"].equal(tensors["other"])
    assert "a note" in seen.notes
    assert seen.sha256() == seen.base.sha256()


@pytest.mark.parametrize("name", ["w", "b", "late", "other"])
def test_any_part_of_a_tensor(name: str, view: tuple[GatheredRows, dict[str, Tensor]]) -> None:
    seen, _ = view
    flat = seen[name].reshape(-1)
    for start in range(len(flat)):
        for stop in range(start + 1, len(flat) + 1):
            assert seen.flat(name, start, stop).equal(flat[start:stop])


def test_what_a_file_of_torch_holds_by_columns(tmp_path: Path) -> None:
    w = torch.randn(3, 5).T
    torch.save({"w": w}, tmp_path / "x.pt")
    seen = GatheredRows(open_checkpoint(tmp_path / "x.pt"), {"w": 0}, INDEX)
    assert seen["w"].equal(gathered(w, 0))
    assert seen.flat("w", 2, 20).equal(gathered(w, 0).reshape(-1)[2:20])


def test_many_scattered_rows_of_several_tensors(tmp_path: Path) -> None:
    tensors = opened(tmp_path, **{name: torch.randn(200, 3) for name in "abcd"})
    index = torch.randperm(200)
    index[::7] = -1
    seen = GatheredRows(open_checkpoint(tmp_path / "x.safetensors"), dict.fromkeys("abcd", 0), index)
    for name, w in [*tensors.items(), *tensors.items()]:
        wanted = torch.where(index[:, None] < 0, 0, w[index.clamp(min=0)]).reshape(-1)
        assert seen.flat(name, 7, 590).equal(wanted[7:590])
        assert seen.flat(name, 0, 30).equal(wanted[:30])
