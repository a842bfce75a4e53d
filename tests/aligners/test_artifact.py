from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import check_element, load_alignment, save_alignment
from deepalign_cli.errors import CheckpointError, DeepalignError, MismatchError, UsageError
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.aligners.turning_pairs import SYMMETRY as TURNING
from tests.aligners.turning_pairs import between, drawn
from tests.symmetry.builders import same_element, seeded

TEXT = """
[axes]
"fc1.weight" = "+s 5"
"fc2.weight" = "+r -s"
"fc3.weight" = "2 -r"
[kinds]
s = "sign"
r = "scale"
"""
SYMMETRY = Symmetry(parse_spec(TEXT), {"fc1.weight": (4, 5), "fc2.weight": (6, 4), "fc3.weight": (2, 6)})
HASHES = ("a" * 64, "b" * 64)
SAVED = Alignment(
    SYMMETRY, SYMMETRY.random(seeded(0)), "weights", 0.0, 3.25, 1 / 3,
    making={"refine": "auto", "sketches": "8"}, hashes=HASHES,
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.alignment"
    save_alignment(path, SAVED, HASHES)
    return path


def test_an_alignment_comes_back_as_it_was_saved(path: Path) -> None:
    found = load_alignment(path, SYMMETRY.shapes)
    assert same_element(found.element, SAVED.element)
    assert found.symmetry.spec.axes == SYMMETRY.spec.axes
    assert found.symmetry.spec.kinds == SYMMETRY.spec.kinds
    assert replace(found, element=SAVED.element, symmetry=SYMMETRY) == SAVED
    assert path.stat().st_size < 3000


def test_a_file_is_not_overwritten_unasked(path: Path) -> None:
    with pytest.raises(UsageError):
        save_alignment(path, SAVED, HASHES)
    save_alignment(path, replace(SAVED, method="none"), HASHES, force=True)
    assert load_alignment(path, SYMMETRY.shapes).method == "none"
    with pytest.raises(UsageError):
        save_alignment(path, SAVED, HASHES, force=True, inputs=(path,))


def tampered(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> Path:
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    return path


def put(name: str, value: Tensor) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    return lambda tensors, metadata: tensors.update({name: value})


def without(key: str) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    return lambda tensors, metadata: (metadata.pop(key, None), tensors.pop(key, None), None)[-1]


def says(key: str, value: str) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    return lambda tensors, metadata: metadata.update({key: value})


I32, F64 = torch.int32, torch.float64


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (put("perm/s", torch.tensor([0, 1, 1, 3], dtype=I32)), MismatchError),
        (put("perm/s", torch.tensor([0, 1, 2, 4], dtype=I32)), MismatchError),
        (put("perm/s", torch.tensor([0, 1, 2, -1], dtype=I32)), MismatchError),
        (put("perm/s", torch.tensor([0, 1, 2], dtype=I32)), MismatchError),
        (put("perm/s", torch.arange(4)), CheckpointError),
        (put("perm/s", torch.arange(4, dtype=I32).reshape(2, 2)), CheckpointError),
        (put("perm/q", torch.arange(4, dtype=I32)), MismatchError),
        (without("perm/r"), MismatchError),
        (put("scale/s", torch.tensor([1, 1, 1, 0.5], dtype=F64)), MismatchError),
        (put("scale/s", torch.ones(3, dtype=F64)), MismatchError),
        (put("scale/s", torch.ones(4)), CheckpointError),
        (put("scale/r", -torch.ones(6, dtype=F64)), MismatchError),
        (put("scale/r", torch.zeros(6, dtype=F64)), MismatchError),
        (put("scale/r", torch.full((6,), torch.inf, dtype=F64)), (MismatchError, CheckpointError)),
        (put("scale/r", torch.full((6,), torch.nan, dtype=F64)), (MismatchError, CheckpointError)),
        (put("scale/q", torch.ones(4, dtype=F64)), MismatchError),
        (put("fc1.weight", torch.ones(4, 5)), CheckpointError),
        (without("deepalign.alignment"), CheckpointError),
        (says("deepalign.alignment", "2"), CheckpointError),
        (without("deepalign.spec"), CheckpointError),
        (without("deepalign.method"), CheckpointError),
        (without("deepalign.sha256.moving"), CheckpointError),
        (without("deepalign.distance_before"), CheckpointError),
        (says("deepalign.distance_after", "near"), CheckpointError),
        (says("deepalign.spec", "[axes"), DeepalignError),
    ],
)  # fmt: skip
def test_what_was_tampered_with_is_refused(
    path: Path,
    change: Callable[[dict[str, Tensor], dict[str, str]], None],
    error: type[DeepalignError] | tuple[type[DeepalignError], ...],
) -> None:
    with pytest.raises(error) as caught:
        load_alignment(tampered(path, change), SYMMETRY.shapes)
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_nothing_else_is_handed_on(path: Path) -> None:
    changed = tampered(path, says("deepalign.making.spec", "[axes]"))
    assert load_alignment(changed, SYMMETRY.shapes).making == SAVED.making


def test_a_permutation_group_may_not_be_scaled() -> None:
    bare = Symmetry(replace(SYMMETRY.spec, kinds={}), SYMMETRY.shapes)
    with pytest.raises(MismatchError, match="its kind forbids"):
        check_element(SAVED.element, bare)
    check_element(Element(SAVED.element.perm), bare)


def test_other_files_are_no_alignments(tmp_path: Path) -> None:
    save_file({"fc1.weight": torch.ones(4, 5)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="is not an alignment"):
        load_alignment(tmp_path / "x.safetensors", SYMMETRY.shapes)
    (tmp_path / "y").write_text("{}")
    with pytest.raises(CheckpointError):
        load_alignment(tmp_path / "y", SYMMETRY.shapes)
    with pytest.raises(UsageError):
        load_alignment(tmp_path / "z", SYMMETRY.shapes)


# --- with rotations and gains ------------------------------------------------------------------------------


@pytest.fixture
def turning(tmp_path: Path) -> Path:
    path = tmp_path / "turning"
    element = between(drawn(0), drawn(1), TURNING.random(seeded(2)))
    save_alignment(path, replace(SAVED, symmetry=TURNING, element=element, method="rotations"), HASHES)
    return path


def test_rotations_and_gains_come_back_as_they_were_saved(turning: Path) -> None:
    element = between(drawn(0), drawn(1), TURNING.random(seeded(2)))
    found = load_alignment(turning, TURNING.shapes)
    assert found.symmetry.spec == TURNING.spec
    assert same_element(found.element, element)
    assert found.element.turn.keys() == element.turn.keys() == {"s", "qk", "vo"}
    for group, turn in element.turn.items():
        assert torch.equal(found.element.turn[group].matrix, turn.matrix)
        assert found.element.turn[group].within == turn.within
    for gains, wanted in ((found.element.enter, drawn(1)), (found.element.leave, drawn(0))):
        assert {name: gain.tolist() for name, gain in gains.items()} == {
            n: wanted[n].tolist() for n in ("n1", "n2")
        }


def scaled(name: str, factor: float) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    return lambda held, _: held.update({name: held[name] * factor})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scaled("turn/s", 1.01), "does not turn the units of 's' as its kind wants"),
        (scaled("turn/qk", torch.nan), "does not turn the units of 'qk'"),
        (put("turn/qk", torch.eye(4).double()[None]), "does not turn the units of 'qk'"),
        (put("turn/vo", torch.eye(4).double().repeat(3, 1, 1)), "does not turn the units of 'vo'"),
        (put("turn/s", torch.eye(6)[None]), "'turn/s' in '.*' is not part of an alignment"),
        (put("turn/h", torch.eye(8).double()[None]), "turns groups that may not turn"),
        (lambda held, _: held.pop("turn/s"), "does not turn the units of 's'"),
        (scaled("enter/n1", 0.0), "gains are not those of the checkpoints"),
        (scaled("leave/n1", torch.inf), "gains are not those of the checkpoints"),
        (put("enter/n2", torch.ones(5).double()), "gains are not those of the checkpoints"),
        (put("enter/embed", torch.ones(6).double()), "gains are not those of the checkpoints"),
        (lambda held, _: held.pop("leave/n2"), "gains are not those of the checkpoints"),
        (put("perm/s", torch.arange(6, dtype=torch.int32)), "permutes groups that"),
    ],
)  # fmt: skip
def test_rotations_and_gains_that_were_tampered_with_are_refused(
    turning: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None], message: str
) -> None:
    with pytest.raises(DeepalignError, match=message):
        load_alignment(tampered(turning, change), TURNING.shapes)
