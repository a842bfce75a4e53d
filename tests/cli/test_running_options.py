"""The options on what is run: what does not fit is told in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.subjects import (
    POINTS,
    changed,
    data_set,
    factory,
    given,
    refused,
)
from tests.operations.making import deepalign, listing, pair


def other(folder: Path, **arrays: np.ndarray) -> list[object]:
    """The model, and a data set of these arrays."""
    np.savez(folder / "other.npz", **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    return ["--model", factory(folder), "--data", folder / "other.npz"]


def own(folder: Path, name: str = "make", *more: object) -> list[object]:
    """A factory, and the data set."""
    return ["--model", factory(folder, name), "--data", data_set(folder), *more]


def torn(folder: Path) -> list[object]:
    (folder / "torn.npz").write_bytes(data_set(folder).read_bytes()[:200])
    return changed(own(folder), "--data", folder / "torn.npz")


X, Y = np.zeros((6, 12), "float32"), np.arange(6) % 5
BROKEN: dict[str, tuple[Callable[[Path], list[object]], int, str]] = {
    "labels too high": (
        lambda f: other(f, inputs=X, labels=Y * 2), 3, "the labels go up to 8, but the network has 5 outputs"
    ),
    "labels below 0": (lambda f: other(f, inputs=X, labels=Y - 2), 3, "a label is -2"),
    "labels of another number": (lambda f: other(f, inputs=X, labels=Y[:4]), 3, "6 inputs but 4 labels"),
    "labels of another shape": (
        lambda f: other(f, inputs=X, labels=np.stack([Y, Y], 1)), 3, "do not fit labels of shape"
    ),
    "values of another shape": (
        lambda f: other(f, inputs=X, labels=X[:, :3]), 3, "do not fit labels of shape 6x3"
    ),
    "no labels": (lambda f: other(f, inputs=X), 3, "the data have no labels"),
    "wrong input shape": (lambda f: other(f, inputs=X[:, :7], labels=Y), 3, "7"),
    "empty data": (lambda f: other(f, inputs=X[:0], labels=Y[:0]), 3, "is empty"),
    "NaN in the data": (lambda f: other(f, inputs=X + np.nan, labels=Y), 3, "hold NaN or Inf"),
    "pixels without a word": (
        lambda f: other(f, inputs=X.astype("uint8"), labels=Y), 2, "nothing says how the networks read them"
    ),
    "arrays by other names": (lambda f: other(f, a=X, b=Y), 3, "is not a data set: it holds 'a', 'b'"),
    "no such data": (lambda f: changed(own(f), "--data", f / "gone.npz"), 2, "there is no data set"),
    "no such split": (
        lambda f: own(f, "make", "--split", "dev"), 2, "has no split 'dev', but 'train', 'test'"
    ),
    "broken data": (torn, 3, "torn.npz' is not an .npz file"),
    "no such loss": (lambda f: own(f, "make", "--loss", "hinge"), 2, "there is no loss 'hinge'"),
    "a loss that raises": (lambda f: own(f, "make", "--loss", factory(f, "raises")), 1, "raised TypeError"),
    "a factory that raises": (lambda f: own(f, "raises"), 1, "raised RuntimeError: no luck today"),
    "a factory of nothing": (lambda f: own(f, "none"), 2, "returned NoneType, not an nn.Module"),
    "no such factory": (lambda f: own(f, "gone"), 2, "has no callable 'gone'"),
    "no such file": (lambda f: changed(own(f), "--model", f / "gone.py:make"), 2, "there is no file"),
    "wrong argument": (lambda f: own(f, "make", "--model-arg", "depth=3"), 1, "raised TypeError"),
    "no argument": (lambda f: own(f, "make", "--model-arg", "depth"), 2, "'depth' is not KEY=VALUE"),
    "an argument twice": (
        lambda f: own(f, "make", *("--model-arg", "a=1") * 2), 2, "--model-arg a is given twice"
    ),
    "another network": (
        lambda f: own(f, "make", "--model-arg", "kind=mlp"), 3,
        "'0.weight' ((16, 12) in the model, absent in the file), '0.bias'",
    ),
    "another width": (
        lambda f: own(f, "wider"), 3, "'fc1.weight' ((17, 12) in the model, (16, 12) in the file)"
    ),
    "a network that raises": (lambda f: own(f, "blows_up"), 3, "mat1 and mat2 shapes cannot be multiplied"),
    "no such method": (lambda f: own(f, "make", "-m", "magic"), 2, "there is no method 'magic'"),
    "too few points": (lambda f: own(f, "make", "--points", 2), 2, "--points"),
    "no examples": (lambda f: own(f, "make", "--limit", 0), 2, "--limit"),
    "no share": (lambda f: own(f, "make", "-m", "dual", "--share", 0), 2, "--share 0 leaves nothing to mix"),
    "a share of nobody": (
        lambda f: own(f, "make", "-m", "weights", "--share", 0.5), 2, "makes no use of --share"
    ),
    "a network of nobody": (
        lambda f: own(f, "make", "-m", "weights", "--sketches", 2), 2, "makes no use of --sketches"
    ),
    "floats as pixels": (
        lambda f: own(f, "make", "--normalise", "unit"), 2, "--normalise unit is for pixels"
    ),
    "design and model": (lambda f: own(f, "make", "--design", "pools=1"), 2, "--design"),
    "json and quiet": (lambda f: own(f, "make", "--json", "-q"), 2, "exclude each other"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_bad_input_is_one_sentence(name: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    make, code, message = BROKEN[name]
    args = make(tmp_path)
    method = [] if {"-m", "--sketches"} & set(map(str, args)) else ["-m", "none"]
    points = [] if "--points" in args else POINTS
    before = set(listing(tmp_path))
    done = deepalign(
        "barrier", a, b, *method, *points, *args, "--plot", tmp_path / "c.svg", "--csv", tmp_path / "c.csv"
    )

    refused(done, code, message, as_json="--json" in args)
    assert {path for path in listing(tmp_path) if "__pycache__" not in path} == before


def test_bad_input_as_json(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    codes = {"labels too high": "data", "a factory of nothing": "usage", "another network": "mismatch"}
    for name, code in codes.items():
        done = deepalign("barrier", a, b, *BROKEN[name][0](tmp_path), "--json")
        assert (done.code, done.out, done.error["code"]) == (BROKEN[name][1], "", code)
        assert done.error["hint"]


@pytest.mark.parametrize(
    ("option", "module", "line"),
    [
        (("--plot", "c.png"), "matplotlib", "pip install 'deepalign[plot]'"),
        (("--plot", "-"), "plotext", "pip install 'deepalign[plot]'"),
        (("--data", "hf:mnist"), "datasets", "pip install 'deepalign[data]'"),
        (("--data", "sklearn:digits"), "sklearn", "pip install 'deepalign[data]'"),
    ],
)
def test_what_is_not_installed_is_named_with_the_line_that_installs_it(
    option: tuple[str, str], module: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    done = deepalign("barrier", a, b, *changed(given(tmp_path), *option), "-m", "none")

    refused(done, 1, f"needs the package '{module}', which is not installed")
    assert done.err.splitlines()[-1] == f"hint: {line}"
    assert not Path("c.png").exists()


@pytest.mark.parametrize("command", ["align", "merge", "barrier", "landscape"])
@pytest.mark.parametrize("option", ["--data", "--model", "--loss"])
def test_an_empty_name_does_not_count_as_none(option: str, command: str, tmp_path: Path) -> None:
    """`--data "$DATA" --max-barrier 0.1` with DATA unset must not pass."""
    a, b = pair(tmp_path)
    done = deepalign(command, a, b, *changed(given(tmp_path), option, ""), "-m", "weights")
    refused(done, 2, f"{option} names nothing")
