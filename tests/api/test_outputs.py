"""What `da.align`, `da.merge` and `da.transport` write: files, folders, shards, types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import deepalign_cli as da
from deepalign_cli.errors import UsageError
from tests import nets
from tests.api.builders import examples, net
from tests.operations.making import generic, metadata, planted, save

FAST: dict[str, Any] = {"method": "weights", "restarts": 1}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two networks in folders; the first has a configuration and a tokenizer."""
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        save_file(generic(nets.named_mlp, seed).state_dict(), tmp_path / name / "model.safetensors")
        config = {"model_type": "x", "torch_dtype": "float32", "of": name}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    return [tmp_path / "a", tmp_path / "b"]


def read(folder: Path) -> dict[str, Tensor]:
    return {name: w for file in sorted(folder.glob("*.safetensors")) for name, w in load_file(file).items()}


def same(one: Any, other: Any) -> bool:
    return set(one) == set(other) and all(one[name].equal(other[name]) for name in one)


def test_a_merged_folder_is_what_is_returned(folders: list[Path], tmp_path: Path) -> None:
    merged = da.merge(folders, out=f"{tmp_path / 'o'}/", dtype="bfloat16", **FAST)
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}
    assert same(read(tmp_path / "o"), merged)
    assert {w.dtype for w in merged.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "o" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    card = (tmp_path / "o" / "README.md").read_text()
    assert card.count("```") == 0  # no command made it
    assert "| `a` | 0.5 |" in card
    assert not merged.alignments[0].is_still


def test_shards(folders: list[Path], tmp_path: Path) -> None:
    merged = da.merge(folders, out=tmp_path / "o", max_shard_size=1000, threads=1, **FAST)
    assert len(list((tmp_path / "o").glob("model-*.safetensors"))) > 1  # a bare name, and A is a folder
    assert same(read(tmp_path / "o"), merged)
    alignment = da.align(*folders, out=f"{tmp_path / 'p'}/", max_shard_size="1KB", threads=2, **FAST)
    assert len(list((tmp_path / "p").glob("model-*.safetensors"))) > 1
    assert same(read(tmp_path / "p"), alignment.apply(da.open(folders[1])))
    assert json.loads((tmp_path / "p" / "config.json").read_text())["of"] == "b"


def test_networks_in_memory_are_written_to_a_folder_with_what_they_cost(tmp_path: Path) -> None:
    modules, data = [net(seed) for seed in range(2)], examples()
    merged = da.merge(modules, data=data, out=f"{tmp_path / 'o'}/", **FAST)
    assert same(read(tmp_path / "o"), merged)
    card = (tmp_path / "o" / "README.md").read_text()
    assert "## What it costs" in card
    assert "**the merged network**" in card


@pytest.mark.parametrize("dtype", ["float16", torch.float16])
def test_another_type_in_memory_and_in_a_file(dtype: object, tmp_path: Path) -> None:
    a, b = (generic(nets.named_mlp, seed).state_dict() for seed in (0, 1))
    merged = da.merge([a, b], dtype=dtype, out=tmp_path / "o.safetensors", **FAST)
    plain = da.merge([a, b], **FAST)
    assert all(w.equal(plain[name].half()) for name, w in merged.items())
    assert same(load_file(tmp_path / "o.safetensors"), merged)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "shards of a file": ({"max_shard_size": "1MB", "out": "o.safetensors"}, "max_shard_size is for folders"),
    "shards of nothing": ({"max_shard_size": "1MB"}, "max_shard_size is for folders"),
    "no size": ({"max_shard_size": "much", "out": "o/"}, "'much' is not a size"),
    "no type": ({"dtype": "int8"}, "dtype is 'int8'"),
    "no threads": ({"threads": 0}, "threads is 0"),
    "threads that are true": ({"threads": True}, "threads is True"),
    "a tokenizer to nowhere": ({"tokenizer": "union"}, "writes a tokenizer"),
    "a tokenizer in memory": ({"tokenizer": "A"}, "'A' is not a folder of transformers"),
    "another tokenizer": ({"tokenizer": "base"}, "tokenizer is 'base'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_in_a_sentence(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options, why = MISTAKES[case]
    a = generic(nets.named_mlp, 0).state_dict()
    with pytest.raises(UsageError, match=why):
        da.merge([a, a], **FAST, **options)
    assert not list(tmp_path.iterdir())


def test_what_is_for_merge_alone() -> None:
    a = generic(nets.named_mlp, 0).state_dict()
    with pytest.raises(UsageError, match="tokenizer is for merge"):
        da.align(a, a, tokenizer="A", **FAST)
    with pytest.raises(UsageError, match="no option 'dtype'"):
        da.align(a, a, dtype="float16", **FAST)


def test_the_folder_of_an_input_is_never_replaced(folders: list[Path], tmp_path: Path) -> None:
    a, b = folders
    da.merge(folders, out=f"{tmp_path / 'o'}/", max_shard_size=1000, **FAST)
    index = tmp_path / "o" / "model.safetensors.index.json"
    before = read(tmp_path / "o")
    for inputs in ([tmp_path / "o", b], [index, b]):
        with pytest.raises(UsageError, match="one of the inputs"):
            da.merge(inputs, out=f"{tmp_path / 'o'}/", force=True, **FAST)
    assert same(read(tmp_path / "o"), before)
    da.merge([a, b], out=f"{tmp_path / 'o'}/", force=True, **FAST)  # one file in the place of shards
    assert not index.exists()


def test_transport_writes_a_folder_with_a_card(folders: list[Path], tmp_path: Path) -> None:
    a, b = folders
    tuned = {name: w + 0.1 for name, w in read(a).items()}
    moved = da.transport(a, tuned, b, out=f"{tmp_path / 'o'}/", max_shard_size=1000, **FAST)
    assert same(read(tmp_path / "o"), moved)
    card = (tmp_path / "o" / "README.md").read_text()
    assert "What tuned A has learned since base A, times 1.0, added to base B." in card
    roles = [line.split(" | ")[1] for line in card.splitlines() if "` | " in line]
    assert roles[:3] == ["base B", "base A", "tuned A"]
    assert json.loads((tmp_path / "o" / "config.json").read_text())["of"] == "b"


def test_transport_repairs_on_data() -> None:
    modules = [generic(nets.mlp_batchnorm, seed) for seed in range(2)]
    a, b = (one.state_dict() for one in modules)
    tuned = {name: w + 0.01 if w.is_floating_point() else w for name, w in a.items()}
    data = torch.randn(64, 12), torch.zeros(64, dtype=torch.long)
    plain = da.transport(a, tuned, b, **FAST)
    repaired = da.transport(a, tuned, b, model=modules[1], data=data, repair=True, **FAST)
    changed = {name for name, w in plain.items() if not w.equal(repaired[name])}
    assert changed == {name for name in plain if "running" in name}
    fresh = generic(nets.mlp_batchnorm, 1)
    fresh.load_state_dict(repaired)
    assert torch.allclose(fresh[0](data[0]).mean(0), repaired["1.running_mean"], atol=1e-5)
    assert any("were re-estimated" in note for note in repaired.notes)
    assert not any("which is a guess" in note for note in repaired.notes)
    assert any("which is a guess" in note for note in plain.notes)
    with pytest.raises(UsageError, match="repair needs data"):
        da.transport(a, tuned, b, repair=True, **FAST)


def test_an_adapter_is_carried_as_by_the_command_line(tmp_path: Path) -> None:
    base = generic(nets.named_mlp, 0).state_dict()
    save(base, tmp_path / "a.pt")
    planted(tmp_path / "a.pt", tmp_path / "b.pt")
    name = next(n for n, w in base.items() if w.ndim == 2)
    module, (outputs, inputs) = name.removesuffix(".weight"), base[name].shape
    (tmp_path / "lora").mkdir()
    stored = [f"base_model.model.{module}.lora_{side}.weight" for side in "AB"]
    factors = dict(zip(stored, (torch.randn(2, inputs), torch.randn(outputs, 2)), strict=True))
    save_file(factors, tmp_path / "lora" / "adapter_model.safetensors")
    (tmp_path / "lora" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    carried = da.transport(tmp_path / "a.pt", tmp_path / "lora", tmp_path / "b.pt", **FAST)
    assert set(carried) == set(stored)
    change = 2 * factors[stored[1]] @ factors[stored[0]]
    wanted = carried.alignments[0].act(name, change)
    assert torch.allclose(carried[stored[1]] @ carried[stored[0]], wanted, atol=1e-5)
    again = da.transport(tmp_path / "a.pt", tmp_path / "lora", tmp_path / "b.pt", out=tmp_path / "o", **FAST)
    assert same(load_file(tmp_path / "o" / "adapter_model.safetensors"), again)
    assert metadata(tmp_path / "o" / "adapter_model.safetensors")["deepalign.command"] == "transport"
    with pytest.raises(UsageError, match="has no effect on LoRA adapters"):
        da.transport(tmp_path / "a.pt", tmp_path / "lora", tmp_path / "b.pt", repair="dream", **FAST)
