from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.nets import named_mlp, transformer_classifier
from tests.operations.making import aligner, deepalign, generic, listing, metadata, pair, save, sha256


@pytest.mark.parametrize(
    "command",
    ["align", "merge", "barrier", "verify", "inspect", pytest.param("demo", marks=pytest.mark.slow)],
)
def test_json_is_one_object_on_stdout_and_quiet_is_quiet(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    inputs = {"demo": [], "inspect": [a], "verify": [a, a]}.get(command, [a, b])
    told = deepalign(command, *inputs, "--json")
    assert (told.code, told.err, told.out.count("\n")) == (0, "", 1)
    assert (told.json["schema"], told.json["command"]) == (1, command)

    force = ["--force"] if command in ("align", "merge") else []
    quiet = deepalign(command, *inputs, "-q", *force)
    expected = f"{told.json['output']}\n" if force else ""
    assert (quiet.code, quiet.out) == (0, expected)
    assert all(line.startswith("assumption: ") for line in quiet.err.splitlines())
    assert quiet.err.splitlines() == [f"assumption: {line}" for line in told.json.get("assumptions", [])]


@pytest.mark.parametrize("command", ["align", "merge", "barrier", "landscape", "verify", "inspect", "demo"])
@pytest.mark.parametrize(
    "args", [["--nonsense"], ["--json", "--nonsense"], ["--json", "-q"], ["a", "b", "-x"]]
)
def test_a_wrong_command_line_exits_2(command: str, args: list[str], tmp_path: Path) -> None:
    done = deepalign(command, *args)

    assert (done.code, done.out) == (2, "")
    if "--json" in args:
        error = json.loads(done.err)["error"]
        assert error["code"] == "usage"
        assert error["hint"]
    else:
        assert [line.split()[0] for line in done.err.splitlines()] == ["error:", "hint:"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-m", "magic"], "there is no method 'magic'"),
        (["--activation", "relux"], "'relux' is not one of"),
        (["--kinds", "scales"], "'scales' is not a kind that can be moved"),
        (["--restarts", "0"], "--restarts"),
        (["--sketches", "0"], "--sketches"),
        (["--sketches", "65"], "--sketches"),
        (["--refine", "magic"], "--refine is 'magic'"),
        (["--network", "magic"], "no network is called 'magic'; these come with deepalign: "),
        (["--network", "gone.safetensors"], "gone.safetensors does not exist"),
        (["--network", "hf://magic"], "'hf://magic' is not a reference"),
        (["--restarts", "many"], "--restarts"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "1.5"], "--seed"),
        (["--heads", "0"], "--heads"),
        (["--heads", "2"], "has no attention heads"),
        (["--spec", "gone.toml"], "there is no spec file 'gone.toml'"),
        (["--alignment", "gone"], "gone does not exist"),
        (["extra"], "extra does not exist"),
    ],
)
def test_align_refuses(args: list[str], message: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    before = listing(tmp_path)
    done = deepalign("align", a, b, *args, "-o", tmp_path / "o.safetensors")

    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[0]
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("deepalign", ["--restarts", "3"]),
        ("weights", ["--sketches", "8"]),
        ("weights", ["--network", "universal-v1"]),
        ("weights", ["--refine", "auto"]),
        ("none", ["--restarts", "3"]),
        ("none", ["--seed", "0"]),
        ("none", ["--sketches", "8"]),
    ],
)
@pytest.mark.parametrize("command", ["align", "merge"])
def test_an_option_without_effect_is_refused(
    command: str, method: str, args: list[str], tmp_path: Path
) -> None:
    """Even where it says what is the default: it was meant to do something."""
    done = deepalign(command, *pair(tmp_path), "-m", method, *args, "-o", tmp_path / "o.safetensors")

    assert (done.code, done.out) == (2, "")
    assert f"-m {method} makes no use of {args[0]}" in done.err
    assert "-m " in done.err.splitlines()[1]
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize("command", ["align", "merge"])
@pytest.mark.parametrize(
    "args",
    [
        ["-m", "deepalign"],
        ["--method", "none"],
        ["--network", "universal-v1"],
        ["--refine", "auto"],
        ["--sketches", "8"],
        ["--restarts", "1"],
        ["--seed", "0"],
        ["--activation", "relu"],
        ["--kinds", "scale,sign"],
        ["--heads", "2"],
        ["--spec", "spec.toml"],
    ],
)
def test_a_saved_alignment_leaves_nothing_to_choose(command: str, args: list[str], tmp_path: Path) -> None:
    done = deepalign(command, *pair(tmp_path), "--alignment", "kept", *args, "-o", tmp_path / "o.safetensors")

    option = "--method" if args[0] == "-m" else args[0]
    assert (done.code, done.out) == (2, "")
    assert f"--alignment and {option} exclude each other" in done.err


@pytest.mark.slow
def test_a_network_of_ones_own(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    own = aligner(tmp_path / "own.safetensors")
    told = deepalign(
        "align", a, b, "--network", own, "--refine", "none", "-o", tmp_path / "o.safetensors", "--json"
    ).json

    assert (told["network"], told["refine"]) == ("own.safetensors", "none")
    made = metadata(tmp_path / "o.safetensors")
    assert made["deepalign.network.name"] == "own.safetensors"
    assert made["deepalign.network.sha256"] == sha256(own)
    assert deepalign("inspect", tmp_path / "o.safetensors").code == 0  # it names a network, and is none


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "align", "merge", "verify"])
def test_files_of_other_kinds_are_told_apart(command: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    own, kept = aligner(tmp_path / "own.safetensors"), tmp_path / "kept"
    deepalign("align", a, b, "-m", "none", "-o", tmp_path / "1", "--save-alignment", kept)
    for other, what, option in (
        (own, "is an aligner network", "--network"),
        (kept, "is a saved alignment", "--alignment"),
    ):
        inputs = [other] if command == "inspect" else [a, other]
        done = deepalign(command, *inputs)
        assert (done.code, done.out) == (3, "")
        message, hint = done.err.splitlines()
        assert f"'{other}' {what}" in message
        assert option in hint


@pytest.mark.slow
def test_a_seed_that_is_huge(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    assert deepalign("align", a, b, "--seed", 2**63 - 1, "-o", tmp_path / "1").code == 0
    done = deepalign("align", a, b, "--seed", 2**80, "-o", tmp_path / "2")
    assert done.code == 2
    assert "--seed" in done.err


@pytest.mark.slow
def test_heads_are_asked_for_and_used(tmp_path: Path) -> None:
    a, b = (
        save(generic(transformer_classifier, seed), tmp_path / f"{name}.pt") for seed, name in enumerate("ab")
    )
    asked = deepalign("align", a, b, "-o", tmp_path / "o.safetensors")
    assert asked.code == 0
    assert "--heads N moves them" in asked.err
    assert deepalign("align", a, b, "--heads", 4, "-o", tmp_path / "p").code == 0
    odd = deepalign("align", a, b, "--heads", 5, "-o", tmp_path / "q")
    assert (odd.code, odd.out) == (2, "")
    assert "5 heads do not divide the width 16" in odd.err


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_folders_as_hugging_face_writes_them(sharded: bool, tmp_path: Path) -> None:
    files = []
    for seed, name in enumerate("ab"):
        state = dict(generic(named_mlp, seed).state_dict())
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "mlp"}')
        if sharded:
            names = list(state)
            table = {n: f"model-0000{1 + (i > 2)}-of-00002.safetensors" for i, n in enumerate(names)}
            for shard in set(table.values()):
                save({n: state[n] for n in names if table[n] == shard}, folder / shard)
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
        else:
            save(state, folder / "model.safetensors")
        files.append(save(state, tmp_path / f"{name}.safetensors"))
    one = deepalign("align", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "1", "--json")
    two = deepalign("align", *files, "-o", tmp_path / "2", "--json")

    assert one.code == two.code == 0
    assert one.json["groups"] == two.json["groups"]
    assert deepalign("verify", tmp_path / "1", tmp_path / "2", "--json").json["residual"] == 0
