from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deepalign_cli.train import zoo_training
from deepalign_cli.train.zoo_files import load_family
from tests.docs.test_cli_reference import documented
from tests.operations.making import deepalign
from tests.train.builders import write_data
from tests.train.runs import ZOO


@pytest.fixture
def words(tmp_path: Path) -> list[str | Path]:
    """A recipe of two families, and where its data is; --out is left to the test."""
    (tmp_path / "data").mkdir()
    (tmp_path / "zoo.toml").write_text(ZOO.format(name="tiny"))
    return ["zoo", tmp_path / "zoo.toml", "--data", write_data(tmp_path / "data"), "--out"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_zoo_is_made_and_told_in_three_ways(words: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "zoo"
    told = deepalign(*words, out, "--json").json
    before = contents(out)
    human, quiet = deepalign(*words, out), deepalign(*words, out, "-q")

    assert sorted(before) == ["tiny-00.safetensors", "tiny-01.safetensors"]
    assert len(load_family(out / "tiny-00.safetensors").score) == 4
    assert told.pop("seconds") > 0
    assert told == {"schema": 1, "command": "zoo", "output": str(out), "families": 2, "networks": 8}
    assert (human.code, human.err) == (0, "")
    assert human.out.startswith(f"8 networks of 2 families in {out}, in ")
    assert (quiet.code, quiet.out, quiet.err) == (0, f"{out}\n", "")
    assert contents(out) == before


@pytest.mark.slow
def test_networks_may_be_written_as_checkpoints_that_align_and_merge(
    words: list[str | Path], tmp_path: Path
) -> None:
    out = tmp_path / "zoo"
    assert deepalign(*words, out).code == 0
    families = {path.name: path.read_bytes() for path in out.iterdir()}
    told = deepalign(*words, out, "--networks", "--json").json
    assert (told["families"], told["networks"]) == (2, 8)
    assert {path.name for path in out.iterdir()} == {*families, "tiny-00", "tiny-01"}
    assert sorted(path.name for path in (out / "tiny-01").iterdir()) == [
        f"0{i}.safetensors" for i in range(4)
    ]
    a, b = (out / "tiny-00" / f"0{i}.safetensors" for i in (0, 1))
    assert deepalign("merge", a, b, "-o", tmp_path / "merged.safetensors", "-m", "weights").code == 0
    assert deepalign(*words, out, "--networks").code == 0
    assert all((out / name).read_bytes() == kept for name, kept in families.items())


def test_every_json_key_is_documented(words: list[str | Path], tmp_path: Path) -> None:
    keys = set(deepalign(*words, tmp_path / "zoo", "--json").json)
    assert keys == documented("zoo") | {"schema", "command"}


@pytest.mark.slow
def test_an_interrupted_zoo_goes_on(
    words: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_family, count = zoo_training.train_family, 0

    def interrupted(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return train_family(*args)

    with monkeypatch.context() as patch:
        patch.setattr(zoo_training, "train_family", interrupted)
        done = deepalign(*words, tmp_path / "parts")
        assert (done.code, done.out, done.err) == (130, "", "error: Interrupted\n")
    first = contents(tmp_path / "parts")
    assert list(first) == ["tiny-00.safetensors"]

    assert deepalign(*words, tmp_path / "parts").code == 0
    assert deepalign(*words, tmp_path / "whole").code == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert contents(tmp_path / "parts")["tiny-00.safetensors"] == first["tiny-00.safetensors"]


@pytest.mark.parametrize(
    ("recipe", "data", "out", "named"),
    [
        (None, "data", "zoo", "there is no recipe"),
        ("x = ", "data", "zoo", "cannot be read"),
        ("x = 3", "data", "zoo", "unknown entry 'x'"),
        ("seed = 3", "data", "zoo", "[[set]]"),
        (ZOO.format(name="t").replace("epochs", "epoch"), "data", "zoo", "epoch"),
        (ZOO.format(name="t").replace("mlp", "mpl"), "data", "zoo", "'mpl'"),
        (ZOO.format(name="t").replace("tiny", "huge"), "data", "zoo", "huge.npz"),
        (ZOO.format(name="t"), "nowhere", "zoo", "--data"),
        (ZOO.format(name="t"), "zoo.toml", "zoo", "--data"),
        (ZOO.format(name="t"), "data", "zoo.toml", "--out"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    recipe: str | None, data: str, out: str, named: str, words: list[str | Path], tmp_path: Path
) -> None:
    path = tmp_path / "zoo.toml"
    path.write_text(recipe) if recipe is not None else path.rename(tmp_path / "other.toml")
    done = deepalign("zoo", path, "--data", tmp_path / data, "--out", tmp_path / out, "--json")

    assert (done.code, done.out, done.error["code"]) == (2, "", "usage")
    assert named in done.error["message"] + done.error["hint"]
    assert done.error["hint"]
