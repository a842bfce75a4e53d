from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.nets import named_mlp, transformer_classifier
from tests.operations.making import deepalign, generic, listing, pair, save


@pytest.mark.parametrize("command", ["align", "merge", "verify", "inspect", "demo"])
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
    assert (quiet.code, quiet.out, quiet.err) == (0, expected, "")


@pytest.mark.parametrize("command", ["align", "merge", "verify", "inspect", "demo"])
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
        (["-m", "magic"], "'magic' is not one of 'weights', 'none'"),
        (["--activation", "relux"], "'relux' is not one of"),
        (["--restarts", "0"], "--restarts"),
        (["--restarts", "many"], "--restarts"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "1.5"], "--seed"),
        (["--heads", "0"], "--heads"),
        (["--heads", "2"], "has no attention heads"),
        (["--spec", "gone.toml"], "there is no spec file 'gone.toml'"),
        (["--alignment", "gone"], "gone does not exist"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_align_refuses(args: list[str], message: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    before = listing(tmp_path)
    done = deepalign("align", a, b, *args, "-o", tmp_path / "o")

    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[0]
    assert listing(tmp_path) == before


def test_a_seed_that_is_huge(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    assert deepalign("align", a, b, "--seed", 2**63 - 1, "-o", tmp_path / "1").code == 0
    done = deepalign("align", a, b, "--seed", 2**80, "-o", tmp_path / "2")
    assert done.code == 2
    assert "--seed" in done.err


def test_heads_are_asked_for_and_used(tmp_path: Path) -> None:
    a, b = (
        save(generic(transformer_classifier, seed), tmp_path / f"{name}.pt") for seed, name in enumerate("ab")
    )
    asked = deepalign("align", a, b, "-o", tmp_path / "o")
    assert asked.code == 0
    assert "--heads N moves them" in asked.err
    assert deepalign("align", a, b, "--heads", 4, "--restarts", 1, "-o", tmp_path / "p").code == 0
    odd = deepalign("align", a, b, "--heads", 5, "--restarts", 1, "-o", tmp_path / "q")
    assert (odd.code, odd.out) == (2, "")
    assert "5 heads do not divide the width 16" in odd.err


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
