from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deepalign_cli.checkpoint import hub
from deepalign_cli.checkpoint.push import check_push, push_folder, size_of
from deepalign_cli.errors import OutputError, UsageError
from tests.hub import TOKEN, StandIn, forget, redirect, serve

FILES = {
    "model.safetensors": b"weights" * 999,
    "config.json": b"{}",
    "README.md": b"---\ntags:\n- merge\n---\n# m\n",
}


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with serve(tmp_path / "home", monkeypatch) as made:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield made
    forget()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "merged"
    made.mkdir()
    for name, data in FILES.items():
        (made / name).write_bytes(data)
    (made / "secret.txt").write_text("not mine to share")
    return made


def test_the_bytes_arrive(folder: Path, online: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    url = push_folder(folder, tuple(FILES), "org/merged")

    assert url == f"{online.endpoint}/org/merged"
    assert online.files("org/merged") == {".gitattributes": b"", **FILES}
    assert not online.repos["org/merged"].private
    assert size_of(folder, tuple(FILES)) == sum(map(len, FILES.values()))
    assert capfd.readouterr() == ("", "")


def test_a_private_repository(folder: Path, online: StandIn) -> None:
    push_folder(folder, ("README.md",), "org/merged", private=True)
    assert online.repos["org/merged"].private


def test_a_repository_that_is_there_keeps_its_other_files(folder: Path, online: StandIn) -> None:
    online.add("org/merged", {"LICENSE": b"mine", "README.md": b"old"})
    push_folder(folder, tuple(FILES), "org/merged")
    assert online.files("org/merged") == {"LICENSE": b"mine", **FILES}


@pytest.mark.parametrize(
    "name",
    ["", "merged", "org/", "/x", "a/b/c", "org/a b", "org/../x", "org/-x", "org/x.", "org/a--b", "hf://org/x",
     "org/x.git", f"org/{'x' * 97}", "org/ä", "org/x\n"],
)  # fmt: skip
def test_names_are_checked_first(name: str, online: StandIn) -> None:
    with pytest.raises(UsageError, match="is not the name of a repository"):
        check_push(name)
    assert online.asked == []


def test_what_is_needed_is_checked_without_asking(online: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    check_push("my-org.x/net_1.5")
    hub.set_offline(True)
    with pytest.raises(UsageError, match="this run is offline"):
        check_push("org/net")
    hub.set_offline(False)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UsageError, match="no access token") as caught:
        check_push("org/net")
    assert "hf auth login" in caught.value.hint
    assert online.asked == []


def failure(folder: Path) -> OutputError:
    with pytest.raises(OutputError) as caught:
        push_folder(folder, tuple(FILES), "org/merged")
    assert f"upload '{folder}' with" in caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_a_token_that_is_not_valid(folder: Path, online: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    error = failure(folder)
    assert error.message == "'org/merged' could not be uploaded: the access token is not valid."
    assert "hf auth login" in error.hint
    assert online.repos == {}


@pytest.mark.parametrize("there", [False, True])
def test_no_right_to_write(there: bool, folder: Path, online: StandIn) -> None:
    if there:
        online.add("org/merged", {"x": b""})
    online.read_only = True
    assert "the access token may not write there" in failure(folder).message


def test_no_hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redirect(tmp_path, "http://127.0.0.1:9", monkeypatch)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "cannot be reached" in failure(folder).message


def test_a_hub_that_is_down(folder: Path, online: StandIn) -> None:
    online.status = 500
    assert "cannot be reached" in failure(folder).message


def test_other_trouble(folder: Path, online: StandIn) -> None:
    (folder / "README.md").write_text("---\n[\n---\n")
    assert "Invalid metadata in README.md" in failure(folder).message


def test_an_upload_that_fails_commits_nothing(folder: Path, online: StandIn) -> None:
    online.broken_uploads = True
    assert "the access token may not write there" in failure(folder).message
    assert online.files("org/merged") == {".gitattributes": b""}
