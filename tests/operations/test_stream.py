from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.errors import MismatchError, NonFiniteError
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.stream import Stream
from deepalign_cli.progress import Progress
from tests.operations.making import metadata, network, pair, save, tensors

NONE = Settings("none")
HASHES = ("1" * 64, "2" * 64)


def total(name: str, parts: Sequence[Tensor]) -> Tensor:
    return parts[0] + parts[1] if parts[0].is_floating_point() else parts[0]


def opened(folder: Path, settings: Settings = NONE) -> Stream:
    inputs = [open_checkpoint(path) for path in pair(folder)]
    return Stream(inputs, Session(inputs, settings).alignments(), inputs[0], total)


def written(stream: Stream, output: Path, settings: Settings = NONE) -> dict[str, str]:
    return stream.write(output, {"command": "merge"}, lambda: HASHES, settings, ())


@pytest.mark.slow
def test_every_tensor_is_made_of_the_moved_ones(tmp_path: Path) -> None:
    stream, told = opened(tmp_path, Settings("weights")), list[float]()
    progress = Progress(lambda share, label: told.append(share), total=len(stream.layout))
    stream.write(tmp_path / "o", {}, lambda: HASHES, NONE, (), progress)

    moved = stream.alignments[0].apply(stream.inputs[1])
    assert stream.alignments[0].moved
    made = tensors(tmp_path / "o")
    assert all(w.equal(stream.inputs[0][name] + moved[name]) for name, w in made.items())
    assert set(made) == set(stream.layout)
    assert len(told) == len(made)


def test_what_is_known_is_written_as_it_is(tmp_path: Path) -> None:
    stream = opened(tmp_path)
    stream.known = {"fc1.bias": torch.full_like(stream.inputs[0]["fc1.bias"], 3)}
    told = written(stream, tmp_path / "o")
    made = tensors(tmp_path / "o")
    assert made["fc1.bias"].eq(3).all()
    assert made["fc2.bias"].equal(stream.inputs[0]["fc2.bias"] + stream.inputs[1]["fc2.bias"])
    assert told == metadata(tmp_path / "o")
    assert (told["deepalign.command"], told["deepalign.sha256.1"]) == ("merge", HASHES[1])


def test_an_alignment_of_other_inputs_is_noticed_when_the_hashes_come(tmp_path: Path) -> None:
    stream = opened(tmp_path)
    stream.alignments = [replace(stream.alignments[0], hashes=(HASHES[0], "3"))]
    with pytest.raises(MismatchError, match="another moving input"):
        written(stream, tmp_path / "o")
    assert not (tmp_path / "o").exists()
    written(stream, tmp_path / "o", replace(NONE, force=True))


def with_nan(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    state = {name: w.clone() for name, w in dict(checkpoint).items()}
    state["fc2.weight"][0, 0] = torch.nan
    return open_checkpoint(save(state, path))


def test_who_holds_nan_is_named_and_what_overflows(tmp_path: Path) -> None:
    stream = opened(tmp_path)
    stream.inputs = [stream.inputs[0], with_nan(stream.inputs[1], tmp_path / "bad.pt")]
    with pytest.raises(NonFiniteError, match=r"'fc2\.weight' in '.*bad\.pt' holds NaN or Inf"):
        written(stream, tmp_path / "o")
    state = {name: torch.full_like(w, 6e4) for name, w in network("named_mlp", 0).half().state_dict().items()}
    large = open_checkpoint(save(state, tmp_path / "large.pt"))
    stream = replace(stream, inputs=[large, large], layout=large)
    with pytest.raises(MismatchError, match="overflows its type when it is combined"):
        written(stream, tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("combiner", [row.name for row in COMBINERS.values() if not row.method])
def test_whatever_combines_them_tensors_of_one_name_are_in_memory(
    combiner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = {f"layers.{i}.weight": torch.randn(24, 24) for i in range(12)}
    paths = [save({n: w + 0.01 * k for n, w in layers.items()}, tmp_path / f"{k}.pt") for k in range(3)]
    inputs = [open_checkpoint(path) for path in paths]
    row, alive = COMBINERS[combiner], list[tuple[str, StorageWeakRef]]()
    count, plain = min(row.most or 3, 3) - (row.base and not row.optional_base), Checkpoint.__getitem__
    inputs = inputs[: count + row.needs_base]

    def read(self: Checkpoint, name: str) -> Tensor:
        assert {other for other, storage in alive if not storage.expired()} <= {name}
        tensor = plain(self, name)
        alive.append((name, StorageWeakRef(tensor.untyped_storage())))
        return tensor

    combine = row.make(row.equal(count), {})
    stream = Stream(inputs, Session(inputs, NONE).alignments(), inputs[0], combine, threads=1)
    monkeypatch.setattr(Checkpoint, "__getitem__", read)
    stream.write(tmp_path / "o", {}, lambda: ("0" * 64,) * len(inputs), NONE, ())
    assert len({name for name, _ in alive}) == len(layers)
    assert all(storage.expired() for _, storage in alive)
