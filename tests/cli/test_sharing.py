"""`merge` into a folder, and its upload."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepalign_cli.cli import sharing
from deepalign_cli.cli.sharing import target_of, words
from deepalign_cli.errors import UsageError
from tests.hub import TOKEN, StandIn, forget, serve
from tests.operations.making import deepalign, listing, network, save, tensors


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A hub, with a token for it; the current folder holds the networks `a/` and `b.safetensors`."""
    folder = tmp_path / "work"
    (folder / "a").mkdir(parents=True)
    monkeypatch.chdir(folder)
    save(network("named_mlp", 0), Path("a/model.safetensors"))
    Path("a/config.json").write_text("{}")
    save(network("named_mlp", 1), Path("b.safetensors"))
    with serve(tmp_path / "home", monkeypatch) as made:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield made
    forget()


def merge(*args: object) -> tuple[object, ...]:
    return ("merge", "a", "b.safetensors", "-m", "none", *args)


def here() -> set[str]:
    return {path.name for path in Path().iterdir()}


# --- a folder -------------------------------------------------------------------------------------


def test_a_trailing_slash_asks_for_a_folder(online: StandIn) -> None:
    done = deepalign(*merge("-o", "out/", "--alpha", "0.25", "--json"))
    assert done.json["output"] == "out"
    assert done.json["files"] == ["model.safetensors", "config.json", "README.md"]
    assert "pushed" not in done.json
    assert {path.name for path in Path("out").iterdir()} == set(done.json["files"])
    text = Path("out/README.md").read_text()
    assert "# out\n" in text
    assert "\ndeepalign merge a b.safetensors --alpha 0.25 -m none -o out/\n" in text
    assert online.asked == []

    assert deepalign(*merge("-o", "out")).code == 2  # it is there now, and --force is not given
    assert deepalign(*merge("-o", "out", "--force", "-q")).out == "out\n"


@pytest.mark.slow
def test_the_command_on_the_card_makes_the_same_again(
    online: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in Path("a").iterdir()}
    online.add("org/a", files)
    first = deepalign(
        "merge",
        "hf://org/a",
        "b.safetensors",
        "--weights",
        "2,1",
        "-m",
        "weights",
        "--seed",
        "3",
        "-o",
        "out/",
    )
    assert first.code == 0
    line = Path("out/README.md").read_text().split("```sh\n")[1].split("\n```")[0].split()
    Path("out").rename("first")
    online.add("org/a", {"model.safetensors": Path("b.safetensors").read_bytes()})  # the branch moves on
    forget()
    assert line[0] == "deepalign"
    assert deepalign(*line[1:]).code == 0

    for file in ("model.safetensors", "README.md", "config.json"):
        assert Path("out", file).read_bytes() == Path("first", file).read_bytes()


def test_no_output_is_no_folder(online: StandIn) -> None:
    before = listing(Path())
    done = deepalign(*merge("-o", "", "--force"))
    assert done.code == 2
    assert listing(Path()) == before


def test_targets(tmp_path: Path) -> None:
    default = Path("a.merged.safetensors")
    a = tmp_path / "a.pt"
    a.touch()
    assert target_of(None, None, a, default) == (default, False)
    assert target_of(None, "org/net", a, default) == (Path("net"), True)
    assert target_of("x.safetensors", None, tmp_path, default) == (Path("x.safetensors"), False)
    assert target_of("x/", None, a, default) == (Path("x"), True)
    assert target_of(str(tmp_path), "org/net", a, default) == (tmp_path, True)
    with pytest.raises(UsageError, match="--push uploads a folder"):
        target_of("x.safetensors", "org/net", a, default)


@pytest.mark.parametrize("name", ["x", "v1.5", "x.5b"])
def test_a_target_without_a_suffix_is_what_a_is(name: str, tmp_path: Path) -> None:
    a, default = tmp_path / "a.pt", Path("a.merged.safetensors")
    a.touch()
    for folder in (tmp_path, Path("hf://org/a"), Path("hf://org/a@main/sub")):
        assert target_of(name, None, folder, default) == (Path(name), True)
    for file in (a, Path("hf://org/a/model.safetensors")):
        with pytest.raises(UsageError, match=f"'{name}' may be a file or a folder") as caught:
            target_of(name, None, file, default)
        assert caught.value.hint.startswith(f"write -o {name}.safetensors, or -o {name}/ ")


def test_a_folder_merges_into_a_folder(online: StandIn) -> None:
    assert deepalign(*merge("-o", "merged", "-q")).out == "merged\n"
    assert {path.name for path in Path("merged").iterdir()} == {
        "model.safetensors", "config.json", "README.md",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.bin", "x.ckpt", "x.PT", "x.onnx"])
@pytest.mark.parametrize("command", ["align", "merge", "demo"])
def test_outputs_are_called_what_they_are(command: str, name: str, online: StandIn) -> None:
    before = listing(Path())
    inputs = [] if command == "demo" else ["a", "b.safetensors", "-m", "none"]
    done = deepalign(command, *inputs, "-o", name)

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: '{name}' would be a safetensors file, which its name does not say",
        "hint: write -o x.safetensors",
    ]
    assert listing(Path()) == before


def test_a_saved_alignment_has_any_name(online: StandIn) -> None:
    words = ("align", "a", "b.safetensors", "-m", "none", "-o", "x.safetensors")
    assert deepalign(*words, "--save-alignment", "ab.pt").code == 0
    assert Path("ab.pt").is_file()


def test_words() -> None:
    given = {
        "--a": None,
        "--b": True,
        "--c": False,
        "--d": 0,
        "--e": [Path("/x/y.pt"), Path("z")],
        "--f": 0.5,
    }
    assert words(given) == ["--b", "--d", "0", "--e", "y.pt", "--e", "z", "--f", "0.5"]


# --- its upload -----------------------------------------------------------------------------------


def test_push(online: StandIn) -> None:
    done = deepalign(*merge("--push", "org/net", "--yes", "--private", "--json"))

    url = f"{online.endpoint}/org/net"
    assert (done.code, done.json["pushed"], done.json["output"]) == (0, url, "net")
    sent = online.files("org/net")
    assert {name: sent[name] for name in done.json["files"]} == {
        path.name: path.read_bytes() for path in Path("net").iterdir()
    }
    assert online.repos["org/net"].private
    assert b"\n# net\n" in sent["README.md"]
    told = deepalign(*merge("--push", "org/net2", "-y"))
    assert (told.code, "note: uploaded 3 files" in told.err) == (0, True)


@pytest.mark.parametrize("answer", ["y", "n", "", "what\nyes"])
def test_it_asks_first(answer: str, online: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    done = deepalign(*merge("--push", "org/net", "-o", "out/", "--json"))

    agreed = answer.endswith(("y", "yes"))
    assert done.code == 0
    assert "Upload 3 files, " in done.err
    assert " to org/net? [y/N]" in done.err
    assert (json.loads(done.out)["pushed"] is not None) == agreed
    assert set(online.repos) == ({"org/net"} if agreed else set())
    assert Path("out/model.safetensors").is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--push", "org/net"], "there is no terminal to ask on"),
        (["--push", "net", "--yes"], "'net' is not the name of a repository"),
        (["--push", "org/a b", "--yes"], "'org/a b' is not the name of a repository"),
        (["--push", "org/net", "--yes", "-o", "file.safetensors"], "--push uploads a folder"),
        (["--push", "org/net", "--yes", "--offline"], "this run is offline"),
        (["--private"], "--private goes with --push"),
        (["--yes"], "--yes goes with --push"),
    ],
)
def test_usage_errors(args: list[str], message: str, online: StandIn) -> None:
    before = listing(Path())
    done = deepalign(*merge(*args))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert listing(Path()) == before
    assert online.asked == []


def test_without_a_token(online: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = deepalign(*merge("--push", "org/net", "--yes"))
    assert done.code == 2
    assert done.err.splitlines()[1].startswith("hint: log in with `hf auth login`")
    assert here() == {"a", "b.safetensors"}


def test_nothing_is_uploaded_if_the_merge_fails(online: StandIn) -> None:
    save(network("plain_cnn_bn", 0), Path("b.safetensors"))
    done = deepalign(*merge("--push", "org/net", "--yes"))
    assert done.code == 3
    assert online.asked == []
    assert here() == {"a", "b.safetensors"}


def test_a_failed_upload_leaves_the_network(online: StandIn) -> None:
    online.read_only = True
    done = deepalign(*merge("--push", "org/net", "--yes", "--json"))
    assert (done.code, done.out) == (1, "")
    assert done.error["code"] == "output"
    assert "hf upload org/net net" in done.error["hint"]
    assert tensors(Path("net/model.safetensors"))
