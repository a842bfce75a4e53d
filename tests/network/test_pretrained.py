from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from deepalign_cli.errors import CheckpointError, DeepalignError, UsageError
from deepalign_cli.network import pretrained
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import load_pretrained, network_name, resolve_network, shipped_networks
from tests.hub import StandIn, forget, serve
from tests.operations.making import aligner, network, save


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that comes with two networks, as a checkout of the sources has them."""
    package = tmp_path / "root" / "package"
    monkeypatch.setattr(pretrained, "_PACKAGE", package)
    folder = package.parent / "pretrained"
    folder.mkdir(parents=True)
    for name in ("small-v1", "small-v2"):
        aligner(folder / f"{name}.safetensors")
    (folder / "small-v3.toml").write_text("seed = 0\n")
    return folder


# --- names ----------------------------------------------------------------------------------------


def test_a_name_is_a_file_that_comes_with_the_package(shipped: Path) -> None:
    assert list(shipped_networks()) == ["small-v1", "small-v2"]
    assert resolve_network("small-v2") == shipped / "small-v2.safetensors"
    assert isinstance(load_pretrained("small-v1"), DeepAlign)


def test_an_installed_package_has_them_inside(shipped: Path) -> None:
    inside = shipped.parent / "package" / "pretrained"
    inside.mkdir(parents=True)
    aligner(inside / "other.safetensors")

    assert shipped_networks() == {"other": inside / "other.safetensors"}


def test_an_unknown_name_lists_those_there_are(shipped: Path) -> None:
    for name in ("universal-v9", "small-v3", ""):
        with pytest.raises(UsageError, match=f"'{name}'; these come with deepalign: 'small-v1', 'small-v2'"):
            resolve_network(name)


# --- paths ----------------------------------------------------------------------------------------


def test_a_path(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shipped.parent)
    aligner(Path("mine"))
    for path in ("mine", "./mine", str(Path("mine").absolute())):
        assert isinstance(load_pretrained(path), DeepAlign)
    for gone in ("gone.safetensors", "folder/gone"):
        assert resolve_network(gone) == Path(gone)
        with pytest.raises(UsageError, match="does not exist"):
            load_pretrained(gone)


def test_a_name_goes_before_a_file_of_that_name(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shipped.parent)
    Path("small-v1").write_text("mine")

    assert resolve_network("small-v1") == shipped / "small-v1.safetensors"
    assert resolve_network("./small-v1") == Path("small-v1")


def test_what_is_no_aligner_is_refused(tmp_path: Path) -> None:
    for path in (save(network("named_mlp", 0), tmp_path / f"a.{kind}") for kind in ("pt", "safetensors")):
        with pytest.raises(CheckpointError, match="is not an aligner"):
            load_pretrained(str(path))


def test_what_a_network_is_called_tells_no_folder(shipped: Path) -> None:
    assert network_name("small-v1") == "small-v1"
    assert network_name("/home/someone/secret/mine.safetensors") == "mine.safetensors"
    assert network_name("hf://org/repo@v1/x.safetensors") == "hf://org/repo@v1/x.safetensors"


# --- the Hub --------------------------------------------------------------------------------------


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with serve(tmp_path / "home", monkeypatch) as made:
        yield made
    forget()


@pytest.mark.parametrize(
    ("reference", "file", "branch"),
    [
        ("hf://org/repo", "universal-v1.safetensors", "main"),
        ("hf://org/repo@v2", "universal-v1.safetensors", "v2"),
        ("hf://org/repo/deep/x.safetensors", "deep/x.safetensors", "main"),
        ("hf://org/repo@refs%2Fpr%2F1/x.safetensors", "x.safetensors", "refs/pr/1"),
    ],
)
def test_a_reference_to_the_hub(
    reference: str, file: str, branch: str, online: StandIn, tmp_path: Path
) -> None:
    online.add(
        "org/repo", {file: aligner(tmp_path / "x.safetensors").read_bytes(), "y.safetensors": b""}, branch
    )
    before = are_progress_bars_disabled(), logging.getLogger("huggingface_hub").level

    assert isinstance(load_pretrained(reference), DeepAlign)
    assert resolve_network(reference).read_bytes() == (tmp_path / "x.safetensors").read_bytes()
    assert online.downloads() == [file]  # the second time nothing is asked
    assert (are_progress_bars_disabled(), logging.getLogger("huggingface_hub").level) == before


@pytest.mark.parametrize("reference", ["hf://", "hf://org", "hf://org/repo/../../x", "hf://a/b@"])
def test_a_malformed_reference(reference: str) -> None:
    with pytest.raises(UsageError, match="is not a reference"):
        resolve_network(reference)


class Failing(Exception):
    """What an HTTP client may raise."""


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (errors.LocalEntryNotFoundError("no connection"), CheckpointError, "cannot be reached"),
        (ConnectionResetError("by peer"), CheckpointError, "cannot be reached"),
        (errors.EntryNotFoundError("404"), UsageError, "has no 'hf://org/repo/universal-v1.safetensors'"),
        (errors.HFValidationError("bad"), UsageError, "has no "),
        (Failing("connection\n reset."), CheckpointError, "could not be fetched: connection reset\\.$"),
        (Failing(), CheckpointError, "could not be fetched: Failing"),
        (OSError(28, "No space left on device"), CheckpointError, "No space left"),
    ],
)
def test_what_the_hub_fails_with_is_told_in_a_sentence(
    raised: Exception,
    kind: type[DeepalignError],
    message: str,
    online: StandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def download(*args: object, **more: object) -> str:
        assert are_progress_bars_disabled()
        raise raised

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(kind, match=message) as caught:
        resolve_network("hf://org/repo")
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_offline_nothing_but_one_error_is_said(tmp_path: Path) -> None:
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""}
    code = (
        "import json, sys\n"
        "from deepalign_cli.errors import CheckpointError\n"
        "from deepalign_cli.network.pretrained import resolve_network\n"
        "light = 'torch' not in sys.modules and 'huggingface_hub' not in sys.modules\n"
        "try:\n"
        "    resolve_network('hf://org/repo')\n"
        "except CheckpointError as error:\n"
        "    print(json.dumps([light, error.message]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)

    light, message = json.loads(done.stdout)
    assert light
    assert "'hf://org/repo/universal-v1.safetensors' is not in the cache" in message
    assert done.stderr == ""


def test_the_shipped_networks_are_those_of_the_sums() -> None:
    folder = next(iter(pretrained.shipped_networks().values())).parent
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    found = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.glob("*.safetensors")}
    assert found == sums
    assert sum(f.stat().st_size for f in folder.iterdir()) < 20e6
    assert all((folder / name).with_suffix(".md").exists() for name in found)
