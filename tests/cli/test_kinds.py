"""`--kinds`: the scales and signs that a traced spec allows, in every command that takes a spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import deepalign_cli as da
from deepalign_cli.errors import UsageError
from tests.operations.making import deepalign
from tests.symmetry.builders import seeded
from tests.symmetry.fused import fused_case


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A network, the same function under a random signed scale, and a spec without kinds."""
    symmetry, a = fused_case("conv and norm")
    torch.save(a, tmp_path / "a.pt")
    torch.save(symmetry.apply(symmetry.random(seeded(1)), a), tmp_path / "b.pt")
    (tmp_path / "s.toml").write_text(str(replace(symmetry.spec, kinds={})))
    return tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "s.toml"


@pytest.mark.parametrize(
    ("kinds", "code"),
    [([], 1), (["--kinds", "scale"], 1), (["--kinds", "sign"], 1), (["--kinds", "sign,scale"], 0)],
)
def test_verify_tries_the_kinds_that_are_asked_for(
    files: tuple[Path, Path, Path], kinds: list[str], code: int
) -> None:
    a, b, spec = files
    done = deepalign("verify", a, b, "--spec", spec, *kinds)
    assert done.code == code
    assert ("--kinds also tries" in done.err) is (not kinds)


def test_an_activation_that_the_traced_network_does_not_have_is_refused(
    files: tuple[Path, Path, Path],
) -> None:
    a, b, spec = files
    spec.write_text(spec.read_text().replace("~+k", "+k").replace("~k", "k"))
    done = deepalign("verify", a, b, "--spec", spec, "--activation", "tanh")
    assert (done.code, done.out) == (3, "")
    assert "no group of the traced network has a sign" in done.err


def test_inspect_shows_them_and_prints_a_traced_spec_whole(files: tuple[Path, Path, Path]) -> None:
    a, _, spec = files
    told = deepalign("inspect", a, "--from", spec, "--kinds", "scale,sign", "--json").json
    assert told["groups"]["k"]["kind"] == "signed scale"
    assert told["tensors"]["norm.weight"]["axes"] == "~+k"
    printed = deepalign("inspect", a, "--from", spec, "--spec").out
    assert da.Spec.parse(printed) == da.Spec.parse(spec.read_text())


def test_what_align_writes_is_the_same_network(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, spec = files
    out = tmp_path / "o.safetensors"
    assert (
        deepalign("align", a, b, "--spec", spec, "--kinds", "scale,sign", "-m", "weights", "-o", out).code
        == 0
    )
    told = deepalign("verify", a, out, "--json").json
    assert told["same"]
    assert told["residual"] < 1e-6  # the output carries the spec with its kinds


def test_the_python_face_takes_them_as_text_or_as_a_list(files: tuple[Path, Path, Path]) -> None:
    a, b, spec = (str(file) for file in files)
    for kinds in ("scale,sign", ["scale", "sign"]):
        assert da.verify(a, b, spec=spec, kinds=kinds).same
    assert not da.verify(a, b, spec=spec, kinds=None).same
    assert not da.verify(a, b, spec=spec).same
    with pytest.raises(UsageError, match="'x' is not a kind"):
        da.verify(a, b, spec=spec, kinds="x")
