"""What users bring as files, through the commands."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_model
from torch import nn

import deepalign_cli as da
from tests.operations.making import deepalign, network, save


def test_a_key_where_a_file_holds_several(tmp_path: Path) -> None:
    one, other = (network("named_mlp", seed).state_dict() for seed in (0, 1))
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for path, state in zip(paths, (one, other), strict=True):
        ema = {name: 2 * w for name, w in state.items()}
        torch.save({"params": state, "params_ema": ema}, path, _use_new_zipfile_serialization=False)
    refused = deepalign("align", *paths, "-m", "weights")
    assert refused.code == 3
    assert "--key params" in refused.err
    done = deepalign(
        "align", *paths, "-m", "weights", "--key", "params_ema", "-o", tmp_path / "o.safetensors"
    )
    assert done.code == 0, done.err
    merged = da.merge(paths, method="none", key="params_ema")
    assert merged["fc1.weight"].allclose(one["fc1.weight"] + other["fc1.weight"], atol=1e-6)
    assert da.open(paths[0], key="params")["fc1.weight"].equal(one["fc1.weight"])
    told = deepalign("inspect", paths[0], "--key", "params", "--json").json
    assert len(told["tensors"]) == len(one)


def test_a_key_beside_a_saved_alignment(tmp_path: Path) -> None:
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for seed, path in enumerate(paths):
        torch.save({"net": network("named_mlp", seed).state_dict()}, path)
    saved = tmp_path / "ab.alignment"
    out = ("-o", tmp_path / "o.safetensors", "--key", "net")
    assert deepalign("align", *paths, "-m", "weights", *out, "--save-alignment", saved).code == 0
    done = deepalign("merge", *paths, "--alignment", saved, *out, "--force")
    assert done.code == 0, done.err


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8, bias=False)
        self.fc2 = nn.Linear(8, 6, bias=False)
        self.again = self.fc1


def test_an_output_leaves_out_what_save_model_left_out(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    for path in paths:
        save_model(Tied(), path)
    spec = tmp_path / "s.toml"
    spec.write_text('[axes]\n"fc1.weight" = "k 6"\n"again.weight" = "k 6"\n"fc2.weight" = "6 k"\n')
    out = tmp_path / "o.safetensors"
    done = deepalign("align", *paths, "--spec", spec, "-m", "weights", "-o", out)
    assert done.code == 0, done.err
    assert load_file(out).keys() == load_file(paths[1]).keys()
    from safetensors.torch import load_model

    load_model(Tied(), out)  # and it loads as it did
    assert set(da.open(out)) == {"fc1.weight", "again.weight", "fc2.weight"}


def test_mlx_files_go_through(tmp_path: Path) -> None:
    a = save(network("named_mlp", 0), tmp_path / "a.safetensors")
    b = save(network("named_mlp", 1), tmp_path / "b.safetensors")
    for path in (a, b):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = data[8 : 8 + length].strip()
        assert b"__metadata__" not in header
        header = b'{"__metadata__":null,' + header[1:]
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    done = deepalign("align", a, b, "-m", "weights", "-o", tmp_path / "o.safetensors")
    assert done.code == 0, done.err
