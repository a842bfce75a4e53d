from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import CheckpointError, UsageError
from deepalign_cli.models.designs import Design
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.models.designs.transformer import Transformer
from deepalign_cli.models.lookup import network_for
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.resolve import resolve_spec
from deepalign_cli.train.export import export_family, export_network, export_zoo, preparation_of
from deepalign_cli.train.known import traced_spec
from deepalign_cli.train.tasks import Task, load_examples
from deepalign_cli.train.zoo_files import Family, save_family
from tests.models.designs.builders import weights_of
from tests.train.builders import bytes_of, write_data

TASK = Task("tiny", side=4, images=80, test=100)


def family(design: Design, task: Task = TASK, count: int = 2) -> Family:
    nets = [{n: w.float() for n, w in weights_of(design, seed).items()} for seed in range(count)]
    stacked = {name: torch.stack([net[name] for net in nets]) for name in nets[0]}
    return Family(design, task, stacked, torch.zeros(count), torch.zeros(count, dtype=torch.long))


def raw(data: Path, name: str = "tiny") -> Tensor:
    with np.load(data / f"{name}.npz") as stored:
        return torch.from_numpy(stored["test_images"])


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {name: checkpoint[name] for name in checkpoint}


@pytest.mark.slow
@pytest.mark.parametrize(
    "design",
    [
        MLP((16, 5, 10), "tanh"),
        CNN((1, 4, 6), 4, norm=True, average=True, pools=(1,)),
        ResNet((4, 6), size=4),
        Transformer(8, 2, 8, layers=1, size=4, patch=2),
    ],
)
def test_an_exported_network_runs_on_raw_images_as_it_was_trained(design: Design, tmp_path: Path) -> None:
    data, trained = write_data(tmp_path), family(design)
    assert export_family(tmp_path / "out", trained, preparation_of(TASK, data)) == 2
    x = load_examples(TASK, data).test_x
    for index in range(2):
        checkpoint = open_checkpoint(tmp_path / "out" / f"0{index}.safetensors")
        network = network_for(checkpoint)
        assert network.preparation is not None
        prepared = network.preparation(raw(data))
        assert torch.allclose(prepared, x, rtol=0, atol=1e-6)
        found = network.run(weights(checkpoint), prepared)
        assert torch.allclose(found, design(trained.network(index), x), atol=1e-5)


def test_colours_stay_where_the_task_keeps_them(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    parts = {f"{part}_images": draw.integers(0, 256, (9, 8, 8, 3), np.uint8) for part in ("train", "test")}
    labels = {f"{part}_labels": np.arange(9) % 3 for part in ("train", "test")}
    np.savez(tmp_path / "colour.npz", **parts, **labels)  # type: ignore[arg-type]
    for grey in (False, True):
        task = Task("colour", side=5, grey=grey)
        preparation = preparation_of(task, tmp_path)
        assert preparation is not None
        found = preparation(torch.from_numpy(parts["test_images"]))
        assert torch.allclose(found, load_examples(task, tmp_path).test_x, rtol=0, atol=1e-6)


def test_a_field_reads_coordinates_and_needs_no_preparation(tmp_path: Path) -> None:
    task = Task("tiny", field=True)
    assert preparation_of(task, tmp_path) is None
    export_family(tmp_path / "out", family(Siren((2, 4, 1), 3.0), task), None)
    network = network_for(open_checkpoint(tmp_path / "out" / "00.safetensors"))
    assert network.preparation is None
    assert network.input_shape == (2,)


def test_a_network_whose_names_do_not_tell_says_what_moves(tmp_path: Path) -> None:
    task, design = Task("python", context=6), Decoder(8, 2, 8, layers=1, context=6, positions="rotary")
    assert preparation_of(task, tmp_path) is None
    trained = family(design, task)
    export_family(tmp_path / "out", trained, None)
    checkpoint = open_checkpoint(tmp_path / "out" / "01.safetensors")
    spec = resolve_spec(checkpoint)
    assert spec == traced_spec(design)
    assert spec.basis is Basis.TRACED
    network, x = network_for(checkpoint), torch.tensor([[3, 1, 4, 1, 5, 9]])
    assert network.input_shape is None
    assert torch.equal(network.run(weights(checkpoint), x), design(trained.network(1), x))


def test_the_families_of_a_zoo_are_exported_and_again(tmp_path: Path) -> None:
    data, zoo = write_data(tmp_path), tmp_path / "zoo"
    zoo.mkdir()
    for name, count in (("a-00", 2), ("b-00", 11), ("c-00", 1)):
        save_family(zoo / f"{name}.safetensors", family(MLP((16, 5, 10)), count=count))
    assert export_zoo(zoo, ["a-00", "b-00"], data) == 13
    first = bytes_of(zoo / "b-00")
    assert sorted(first) == [f"{i:02d}.safetensors" for i in range(11)]
    assert not (zoo / "c-00").exists()
    (zoo / "b-00" / "03.safetensors").unlink()
    assert export_zoo(zoo, ["a-00", "b-00"], data) == 13
    assert bytes_of(zoo / "b-00") == first


def test_what_is_no_network_of_the_family_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_family(out, family(MLP((16, 5, 10))), None)
    before = bytes_of(out)
    with pytest.raises(UsageError, match=r"00.safetensors' is not a network of this family"):
        export_family(out, family(MLP((16, 6, 10))), None)
    (out / "01.safetensors").write_bytes(b"mine")
    with pytest.raises(CheckpointError, match=r"01\.safetensors"):
        export_family(out, family(MLP((16, 5, 10))), None)
    assert bytes_of(out) == {**before, "01.safetensors": b"mine"}


def test_a_file_is_not_overwritten_without_being_told_to(tmp_path: Path) -> None:
    design, path = MLP((16, 5, 10)), tmp_path / "net.safetensors"
    export_network(path, design, weights_of(design), None)
    with pytest.raises(UsageError, match="exists"):
        export_network(path, design, weights_of(design), None)


def test_more_than_a_hundred_networks_sort_by_name(tmp_path: Path) -> None:
    export_family(tmp_path, family(MLP((2, 2)), count=101), None)
    assert sorted(bytes_of(tmp_path))[-1] == "100.safetensors"
    assert "001.safetensors" in bytes_of(tmp_path)
