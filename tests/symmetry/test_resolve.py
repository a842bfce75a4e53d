from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import MismatchError, SpecError, UsageError
from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.kinds import SCALE, SIGN
from deepalign_cli.symmetry.resolve import (
    blank_spec,
    check_same_layout,
    resolve_spec,
    shapes_of,
    turning_spec,
)
from deepalign_cli.symmetry.spec import Activation, format_spec, parse_spec
from deepalign_cli.symmetry.stored_spec import SPEC_KEY
from deepalign_cli.symmetry.symmetry import Symmetry
from tests import nets

MLP = nets.mlp((5, 6, 3)).state_dict()


def saved(path: Path, weights: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Checkpoint:
    save_file({n: w.contiguous() for n, w in weights.items()}, path, metadata)
    return open_checkpoint(path)


def spec_text(group: str) -> str:
    return f'[axes]\n"0.weight" = "+{group} 5"\n"0.bias" = "+{group}"\n"2.weight" = "3 -{group}"\n'


def test_a_file_comes_before_the_metadata_and_these_before_the_family(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text(spec_text("file"))
    plain = saved(tmp_path / "a.safetensors", MLP)
    stored = saved(tmp_path / "b.safetensors", MLP, {SPEC_KEY: spec_text("metadata")})
    assert resolve_spec(plain).groups() == ("h0",)
    assert resolve_spec(stored).groups() == ("metadata",)
    assert resolve_spec(stored, toml).groups() == ("file",)


def test_the_activation_sets_the_kinds_of_any_spec(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text(spec_text("k"))
    file = saved(tmp_path / "a.safetensors", MLP)
    assert resolve_spec(file, toml, Activation.TANH).kinds == {"k": SIGN}
    assert resolve_spec(file, None, Activation.RELU).kinds == {"h0": SCALE}


def test_names_in_a_spec_may_be_written_as_in_the_file(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", {f"module.{n}": w for n, w in MLP.items()})
    toml = tmp_path / "a.toml"
    toml.write_text(spec_text("k").replace('"0.weight"', '"module.0.weight"'))
    spec = resolve_spec(file, toml)
    assert Symmetry(spec, shapes_of(file)).sizes == {"k": 6}
    assert set(spec.axes) == {"0.weight", "0.bias", "2.weight"}


def test_an_unknown_architecture_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", {"a.weight": torch.ones(5, 4), "b.weight": torch.ones(3, 6)})
    with pytest.raises(SpecError, match=r"a\.safetensors' cannot be recognised") as caught:
        resolve_spec(file)
    assert "--blank" in caught.value.hint


def test_heads_are_asked_for_only_where_there_are_some(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", MLP)
    with pytest.raises(UsageError, match="has no attention heads"):
        resolve_spec(file, heads=4)
    former = saved(tmp_path / "b.safetensors", nets.transformer_classifier().state_dict())
    assert any("heads" in g for g in resolve_spec(former, heads=4).groups())
    assert not any("heads" in g for g in resolve_spec(former).groups())


@pytest.mark.parametrize(
    ("value", "known"), [(4, True), (True, False), ("4", False), (0, False), (None, False)]
)
def test_the_number_of_heads_may_stand_in_the_config(tmp_path: Path, value: object, known: bool) -> None:
    saved(tmp_path / "model.safetensors", nets.transformer_classifier().state_dict())
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": value}))
    assert any("heads" in g for g in resolve_spec(open_checkpoint(tmp_path)).groups()) is known


def test_tied_tensors_must_move_alike(tmp_path: Path) -> None:
    shared = torch.randn(6, 6)
    torch.save({"fc1.weight": shared, "fc2.weight": shared}, tmp_path / "a.pt")
    file = open_checkpoint(tmp_path / "a.pt")
    with pytest.raises(SpecError, match=r"'fc2\.weight' and 'fc1\.weight' share their memory"):
        resolve_spec(file)
    toml = tmp_path / "a.toml"
    toml.write_text('[axes]\n"fc1.weight" = "k k"\n"fc2.weight" = "k k"\n')
    assert resolve_spec(file, toml).groups() == ("k",)


@pytest.mark.parametrize(
    ("kind", "mark", "more"),
    [
        ("orthogonal", "", '[gains]\n"norm.weight" = ["fc2.weight"]\n'),
        ("sign", "~", '[phases]\n"fc1.bias" = { half_turn = 0.1, flips = ["fc2.weight"] }\n'),
    ],
)
def test_tied_tensors_must_have_the_same_gains_and_phases(
    tmp_path: Path, kind: str, mark: str, more: str
) -> None:
    shared, vector = torch.randn(6, 5), torch.randn(5)
    weights = {"fc1.weight": shared, "fc2.weight": shared, "fc1.bias": vector, "norm.weight": vector.exp()}
    torch.save(weights, tmp_path / "a.pt")
    toml = tmp_path / "a.toml"
    axes = {
        "fc1.weight": f"6 {mark}k",
        "fc2.weight": f"6 {mark}k",
        "fc1.bias": f"{mark}k",
        "norm.weight": "5",
    }
    text = "[axes]\n" + "".join(f'"{name}" = "{axis}"\n' for name, axis in axes.items())
    toml.write_text(f'{text}[kinds]\nk = "{kind}"\n{more}')
    resolve = turning_spec if kind == "orthogonal" else resolve_spec
    with pytest.raises(SpecError, match=r"'fc2\.weight' and 'fc1\.weight' share their memory"):
        resolve(open_checkpoint(tmp_path / "a.pt"), toml)


def test_a_skeleton_moves_nothing_and_fits(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", nets.plain_cnn(norm=True).state_dict())
    spec = parse_spec(format_spec(blank_spec(file)))
    assert Symmetry(spec, shapes_of(file)).sizes == {}
    assert format_axes(spec.axes["conv1.weight"]) == "8 3 3 3"
    assert "bn1.num_batches_tracked" not in spec.axes  # a scalar has no axes


def test_missing_and_extra_tensors_are_listed(tmp_path: Path) -> None:
    full = saved(tmp_path / "full.safetensors", MLP)
    less = saved(
        tmp_path / "less.safetensors", {"x": torch.ones(1)} | {n: MLP[n] for n in ("0.bias", "0.weight")}
    )
    with pytest.raises(MismatchError) as caught:
        check_same_layout(full, less)
    assert "less.safetensors' lacks '2.bias', '2.weight'" in caught.value.message
    assert "full.safetensors' lacks 'x'" in caught.value.message
    many = saved(tmp_path / "many.safetensors", MLP | {f"x{i}": torch.ones(1) for i in range(8)})
    with pytest.raises(MismatchError, match="'x4' and 3 more"):
        check_same_layout(full, many)
    check_same_layout(full, full)


@pytest.mark.parametrize("value", [torch.ones(7), torch.ones(6, dtype=torch.int64)])
def test_shapes_and_types_that_differ_are_named_on_both_sides(tmp_path: Path, value: Tensor) -> None:
    one, other = (
        saved(tmp_path / "a.safetensors", MLP),
        saved(tmp_path / "b.safetensors", MLP | {"0.bias": value}),
    )
    with pytest.raises(MismatchError, match=r"'0\.bias' is F32 \[6\] in .*a\.safe.*'0\.bias' is .*b\.safe"):
        check_same_layout(one, other)
    halves = saved(tmp_path / "c.safetensors", {n: w.half() for n, w in MLP.items()})
    check_same_layout(one, halves)  # float types may differ
