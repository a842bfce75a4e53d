"""Files of other formats, made by their own libraries where those are installed."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.foreign import DISTRIBUTED
from deepalign_cli.errors import CheckpointError, UnsafeCheckpointError
from tests.checkpoint.builders import FOUR, global_, state, torch_zip


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert not isinstance(caught.value, UnsafeCheckpointError)
    assert caught.value.exit_code == 3
    return caught.value


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy_archives(tmp_path: Path, save: object) -> None:
    save(tmp_path / "x.npz", w=np.ones((100, 100)))  # type: ignore[operator]
    error = refusal(tmp_path / "x.npz")
    assert "NumPy archive" in error.message
    assert "numpy.load('x.npz')" in error.hint


def test_the_line_for_numpy_archives_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", **{"fc.weight": np.ones((2, 3), np.float32)})
    monkeypatch.chdir(tmp_path)
    code = refusal(tmp_path / "x.npz").hint.removeprefix('python -c "').removesuffix('"')
    exec(code, {})  # the line itself is what is tested
    assert open_checkpoint(tmp_path / "x.pt")["fc.weight"].shape == (2, 3)


@pytest.mark.slow
def test_exported_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(2, 3),))
    torch.export.save(program, tmp_path / "x.pt2")
    error = refusal(tmp_path / "x.pt2")
    assert "exported program" in error.message
    monkeypatch.chdir(tmp_path)
    exec("import torch; " + error.hint.removeprefix("where you trust it: ").partition(". As it is")[0], {})
    assert list(open_checkpoint(tmp_path / "x.pt")) == ["weight", "bias"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_distributed_checkpoints(tmp_path: Path) -> None:
    from torch.distributed.checkpoint import FileSystemWriter, save
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    writer = FileSystemWriter(tmp_path / "dcp")
    save({"model": {"w": torch.ones(2)}}, storage_writer=writer, no_dist=True)
    error = refusal(tmp_path / "dcp")
    assert "(DCP)" in error.message
    assert "dcp_to_torch" in error.hint
    dcp_to_torch_save(tmp_path / "dcp", tmp_path / "x.pt")  # what the line calls
    assert open_checkpoint(tmp_path / "x.pt")["w"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "name", ["torch.distributed.tensor DTensor", "torch.distributed._shard.sharded_tensor.api ShardedTensor"]
)
def test_shards_of_tensors(tmp_path: Path, name: str) -> None:
    pickled = state(w=global_(*name.split()))
    error = refusal(torch_zip(tmp_path / "x.pt", pickled, FOUR))
    assert DISTRIBUTED[0] in error.message
    assert "full_state_dict=True" in error.hint


ZIPS = {
    "Keras": ("metadata.json", "config.json", "model.weights.h5"),
    "TorchServe": ("MAR-INF/MANIFEST.json", "net.py", "net.pt"),
}


@pytest.mark.parametrize("what", ZIPS)
def test_other_zip_files(tmp_path: Path, what: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ZIPS[what]:
            archive.writestr(name, "x" * 100)
    assert what in refusal(tmp_path / "x.bin").message


BEGINNINGS = {
    "ONNX": ("x.bin", b"\x08\x07\x12\x07pytorch\x1a\x05"),
    "ONNX by its suffix": ("x.onnx", b"\x08\x07\x3a\x80\x10"),
    "TensorFlow Lite": ("x.bin", b"\x1c\0\0\0TFL3\x14\0"),
    "TensorFlow.js": ("model.json", json.dumps({"format": "layers-model", "weightsManifest": []}).encode()),
    "msgpack": ("x.bin", b"\x81\xa6params\x81\xa5Dense"),
    "msgpack by its suffix": ("x.msgpack", b"\xde\0\x20\xd9"),
    "HDF5": ("x.h5", b"\x89HDF\r\n\x1a\n"),
    "GGUF": ("x.gguf", b"GGUF\3\0\0\0"),
    "Paddle": ("x.pdparams", pickle.dumps({"w": 1}, 2)),
}


@pytest.mark.parametrize("what", BEGINNINGS)
def test_other_beginnings(tmp_path: Path, what: str) -> None:
    name, data = BEGINNINGS[what]
    (tmp_path / name).write_bytes(data)
    error = refusal(tmp_path / name)
    assert what.split(" by ")[0] in error.message
    assert error.hint


FOLDERS = {
    "DeepSpeed": ("zero_to_fp32.py", "latest"),
    "ZeRO": ("bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"),
    "DCP": (".metadata", "__0_0.distcp"),
    "TensorFlow.js": ("model.json", "group1-shard1of1.bin"),
    "SavedModel": ("saved_model.pb",),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_other_folders(tmp_path: Path, what: str) -> None:
    for name in FOLDERS[what]:
        (tmp_path / name).write_bytes(b"x")
    assert what in refusal(tmp_path).message


def test_usual_weights_beside_them_are_read(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "zero_to_fp32.py").write_text("")
    assert list(open_checkpoint(tmp_path)) == ["w"]
