from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from deepalign_cli.checkpoint import hub, open_checkpoint
from deepalign_cli.checkpoint.hub import (
    Reference,
    fetch,
    fetch_beside,
    is_reference,
    parse_reference,
    shown_source,
)
from deepalign_cli.errors import CheckpointError, UsageError
from tests.hub import TOKEN, Repo, StandIn, forget, redirect, serve

WEIGHTS = save({"fc.weight": torch.arange(6.0).reshape(2, 3)})
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with serve(tmp_path / "home", monkeypatch) as made:
        yield made
    forget()


def small(extra: dict[str, bytes] | None = None) -> dict[str, bytes]:
    return {"model.safetensors": WEIGHTS, "config.json": b"{}", "README.md": b"# m", **(extra or {})}


def sharded() -> dict[str, bytes]:
    parts = {"one.safetensors": {"a": torch.ones(2)}, "two.safetensors": {"b": torch.ones(3)}}
    table = {name: file for file, tensors in parts.items() for name in tensors}
    index = json.dumps({"weight_map": table}).encode()
    return {"model.safetensors.index.json": index, **{file: save(t) for file, t in parts.items()}}


# --- references -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://org/repo", Reference("org/repo")),
        ("hf://org/repo@v1.2", Reference("org/repo", "v1.2")),
        ("hf://org/re.po/deep/x.safetensors", Reference("org/re.po", None, "deep/x.safetensors")),
        ("hf://o_r-g/repo@refs%2Fpr%2F1/x.pt", Reference("o_r-g/repo", "refs/pr/1", "x.pt")),
    ],
)
def test_a_reference_with_one_slash_or_two(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected
    assert parse_reference(Path(text)) == expected  # which has lost a slash
    assert str(expected) == text == shown_source(Path(text))
    assert is_reference(Path(text))


@pytest.mark.parametrize(
    "text",
    [
        "hf://", "hf://org", "hf://org/", "hf://org/repo/../../x", "hf://a/b@", "hf:///a/b", "hf://a/b@../x/y",
        "hf://a/b@..%2F..%2Fx", "hf://a/b/x\ny", "hf://a/b/./x", "hf://a/b//x", "hf://ä/b",
    ],
)  # fmt: skip
def test_a_malformed_reference(text: str) -> None:
    with pytest.raises(UsageError, match="is not a reference") as caught:
        parse_reference(text)
    assert "hf://org/repo" in caught.value.hint


@pytest.mark.parametrize("text", ["a.pt", "hf", "./hf:", "/x/hf:/org/repo", "hf/org/repo"])
def test_paths_are_no_references(text: str) -> None:
    assert not is_reference(text)
    assert shown_source(text) == text


# --- fetching -------------------------------------------------------------------------------------


def test_a_repository_is_its_weights_and_config(online: StandIn) -> None:
    sha = online.add(
        "org/repo", small({"other.bin": b"x", "tokenizer.json": b"{}", "deep/model.safetensors": b""})
    )
    checkpoint = open_checkpoint("hf://org/repo")

    assert checkpoint["fc.weight"].equal(torch.arange(6.0).reshape(2, 3))
    assert checkpoint.origin == checkpoint.called == f"hf://org/repo@{sha}"
    assert checkpoint.path.name == sha
    assert sorted(path.name for path in checkpoint.path.iterdir()) == ["config.json", "model.safetensors"]


def test_the_second_time_nothing_is_downloaded(online: StandIn) -> None:
    online.add("org/repo", small())
    first = fetch(Reference("org/repo"))
    asked = len(online.asked)
    assert fetch(Reference("org/repo")) == first
    assert len(online.asked) == asked  # one process sees one state

    forget()
    before = online.downloads()
    assert fetch(Reference("org/repo")) == first
    assert online.downloads() == before
    new = online.add("org/repo", {"model.safetensors": save({"b": torch.ones(1)})})
    forget()
    assert fetch(Reference("org/repo")).path.name == new
    assert open_checkpoint("hf://org/repo").keys() == {"b"}


def test_one_file(online: StandIn) -> None:
    sha = online.add("org/repo", {"deep/er/x.safetensors": WEIGHTS, "y.safetensors": b"no"})
    checkpoint = open_checkpoint("hf://org/repo/deep/er/x.safetensors")

    assert checkpoint.origin == f"hf://org/repo@{sha}/deep/er/x.safetensors"
    assert checkpoint.keys() == {"fc.weight"}
    assert online.downloads() == ["deep/er/x.safetensors"]


@pytest.mark.parametrize("repository", ["models--org--repo", "other"])
def test_blobs_that_repositories_share(repository: str, tmp_path: Path) -> None:
    # Hugging Face's cache since huggingface_hub 2: snapshot -> blob of the repository -> blob of all
    shared = tmp_path / "blobs" / "ab" / "abcd"
    blob = tmp_path / repository / "blobs" / "1234"
    snapshot = tmp_path / repository / "snapshots" / SHA
    for folder in (shared.parent, blob.parent, snapshot):
        folder.mkdir(parents=True)
    shared.write_bytes(WEIGHTS)
    blob.symlink_to(shared)
    (snapshot / "model.safetensors").symlink_to(blob)

    if repository == "other":
        with pytest.raises(CheckpointError, match="a link that leads out of its folder"):
            open_checkpoint(snapshot)
    else:
        assert list(open_checkpoint(snapshot)) == ["fc.weight"]


def test_a_folder_in_a_repository(online: StandIn) -> None:
    sha = online.add(
        "org/repo", {"x.safetensors": b"no", "step-5/model.safetensors": WEIGHTS, "step-5/a/b": b""}
    )
    checkpoint = open_checkpoint("hf://org/repo/step-5")

    assert checkpoint.origin == f"hf://org/repo@{sha}/step-5"
    assert checkpoint.path.name == "step-5"
    assert list(checkpoint) == ["fc.weight"]


@pytest.mark.parametrize("source", ["hf://org/repo", "hf://org/repo/model.safetensors.index.json"])
def test_all_shards_of_an_index(source: str, online: StandIn) -> None:
    online.add("org/repo", sharded() | {"three.safetensors": WEIGHTS})
    assert sorted(open_checkpoint(source)) == ["a", "b"]
    assert not any("three" in file for file in online.downloads())


def test_an_index_cannot_reach_out_of_its_folder(online: StandIn) -> None:
    index = json.dumps({"weight_map": {"a": "../../secret"}}).encode()
    online.add("org/repo", {"model.safetensors.index.json": index})
    with pytest.raises(CheckpointError, match="is not a plain file name"):
        fetch(Reference("org/repo"))


@pytest.mark.parametrize("kind", ["branch", "tag with a slash", "commit"])
def test_a_revision(kind: str, online: StandIn) -> None:
    branch = {"branch": "dev", "tag with a slash": "refs/pr/1", "commit": "x"}[kind]
    sha = online.add("org/repo", small(), branch)
    online.add("org/repo", {"model.safetensors": b"no"})
    revision = sha if kind == "commit" else branch
    reference = Reference("org/repo", revision)

    assert open_checkpoint(str(reference)).origin == f"hf://org/repo@{sha}"
    forget()
    hub.set_offline(True)
    assert open_checkpoint(str(reference)).origin == f"hf://org/repo@{sha}"


def test_a_branch_that_moves_between_two_questions(online: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = online.add("org/repo", small())
    download = hub._download

    def moved(repo: str, file: str, revision: str | None) -> Path:
        online.add("org/repo", {"model.safetensors": save({"b": torch.ones(1)})})
        return download(repo, file, revision)

    monkeypatch.setattr(hub, "_download", moved)
    checkpoint = open_checkpoint("hf://org/repo")
    assert checkpoint.origin == f"hf://org/repo@{sha}"
    assert list(checkpoint) == ["fc.weight"]


# --- offline --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["set", "environment"])
@pytest.mark.parametrize("files", [small(), sharded()])
def test_offline_the_cache_is_taken_and_nothing_is_asked(
    files: dict[str, bytes], how: str, online: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.add("org/repo", files)
    found = fetch(Reference("org/repo"))
    forget()
    online.asked.clear()
    hub.set_offline(how == "set")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "environment")

    assert fetch(Reference("org/repo")) == found
    assert fetch(found.reference) == found
    first = next(name for name in files if name.endswith(".safetensors"))
    assert fetch(Reference("org/repo", None, first)).path == found.path / first
    assert open_checkpoint("hf://org/repo").origin == str(found.reference)
    assert online.asked == []


def test_offline_what_is_not_in_the_cache(online: StandIn) -> None:
    online.add("org/repo", sharded())
    found = fetch(Reference("org/repo"))
    (found.path / "two.safetensors").unlink()
    forget()
    hub.set_offline(True)
    for text in (
        "hf://org/repo",
        "hf://org/gone",
        "hf://org/repo@v1",
        f"hf://org/repo@{SHA}",
        "hf://org/repo/x.pt",
    ):
        with pytest.raises(CheckpointError, match=f"'{text}' is not in the cache") as caught:
            open_checkpoint(text)
        assert "--offline" in caught.value.hint


def test_a_hub_out_of_reach_leaves_the_cache_and_a_note(online: StandIn) -> None:
    online.add("org/repo", small())
    found = fetch(Reference("org/repo"))
    forget()
    online.status = 503
    checkpoint = open_checkpoint("hf://org/repo")

    assert checkpoint.origin == str(found.reference)
    assert checkpoint.notes == (
        f"the Hugging Face Hub cannot be reached: '{found.reference}' was taken from its cache",
    )


@pytest.mark.parametrize("text", ["hf://org/repo", "hf://org/repo/x.safetensors"])
def test_no_hub_and_no_copy(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redirect(tmp_path, "http://127.0.0.1:9", monkeypatch)  # where nobody listens
    with pytest.raises(CheckpointError, match="cannot be reached, and there is no copy") as caught:
        open_checkpoint(text)
    assert "other means" in caught.value.hint


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["hf://org/gone", "hf://org/repo@gone", "hf://org/repo/gone.pt", "hf://org/repo@gone/config.json"]
)
def test_what_is_not_there(text: str, online: StandIn) -> None:
    online.add("org/repo", small())
    with pytest.raises(UsageError, match=f"the Hugging Face Hub has no '{text}'") as caught:
        open_checkpoint(text)
    assert "hf auth login" in caught.value.hint


@pytest.mark.parametrize("text", ["hf://org/repo/gone", "hf://org/none"])
def test_no_weights(text: str, online: StandIn) -> None:
    online.add("org/repo", small())
    online.add("org/none", {"README.md": b""})
    with pytest.raises(CheckpointError, match=f"{text} is a folder without weights"):
        open_checkpoint(text)


def test_a_private_repository(online: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    online.add("org/repo", small())
    online.repos["org/repo"].private = True
    for text in ("hf://org/repo", "hf://org/repo/model.safetensors"):
        with pytest.raises(UsageError, match=r"has no 'hf://org/repo.*', or does not show it to you"):
            open_checkpoint(text)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for text in ("hf://org/repo", "hf://org/repo/model.safetensors"):
        with pytest.raises(CheckpointError, match="the access token is not valid") as caught:
            open_checkpoint(text)
        assert "hf auth login" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert list(open_checkpoint("hf://org/repo")) == ["fc.weight"]


def test_a_gated_repository(online: StandIn) -> None:
    online.repos["org/repo"] = Repo(private=True, gate="GatedRepo")
    for text in ("hf://org/repo", "hf://org/repo/model.safetensors"):
        with pytest.raises(UsageError, match="accept its conditions"):
            open_checkpoint(text)


def test_a_download_that_breaks_off_is_an_error_or_taken_up_again(online: StandIn) -> None:
    online.add("org/repo", small())
    online.cut = [1, 20]
    reference = Reference("org/repo", None, "model.safetensors")
    for _ in range(2):
        with suppress(CheckpointError):  # an older huggingface_hub gives up
            fetch(reference)
    assert fetch(reference).path.read_bytes() == WEIGHTS


def test_a_download_that_ends_too_soon(online: StandIn) -> None:
    online.add("org/repo", {"model.safetensors": WEIGHTS})
    online.cut, online.short = [5], True
    with pytest.raises(CheckpointError, match="could not be fetched: Consistency check failed") as caught:
        fetch(Reference("org/repo"))
    assert "\n" not in caught.value.message
    online.short = False
    assert list(open_checkpoint("hf://org/repo")) == ["fc.weight"]  # nothing of it was kept


def test_what_is_downloaded_is_checked_like_any_file(online: StandIn) -> None:
    online.add("org/repo", {"model.safetensors": WEIGHTS[:-1]})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: "):
        open_checkpoint("hf://org/repo")


# --- beside the weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["hf://org/repo", "hf://org/repo/model.safetensors"])
def test_files_beside_the_weights(source: str, online: StandIn) -> None:
    files = small(
        {"tokenizer.json": b"{1}", "tokenizer.model": b"x" * 50, "deep/tokenizer.json": b"", "run.py": b""}
    )
    online.add("org/repo", files)
    found = fetch(parse_reference(source))

    def wanted(name: str) -> bool:
        return "token" in name

    beside, notes = fetch_beside(found.reference, wanted, 40)
    assert {name: path.read_bytes() for name, path in beside.items()} == {"tokenizer.json": b"{1}"}
    assert notes == ("'tokenizer.model' was left out: it is longer than 40 bytes",)
    hub.set_offline(True)
    assert fetch_beside(found.reference, wanted, 40) == (beside, ())


def test_files_beside_the_weights_in_a_folder(online: StandIn) -> None:
    online.add("org/repo", {"d/model.safetensors": WEIGHTS, "d/config.json": b"1", "config.json": b"2"})
    found = fetch(Reference("org/repo", None, "d"))
    beside, _ = fetch_beside(found.reference, lambda name: name == "config.json", 40)
    assert beside["config.json"].read_bytes() == b"1"
