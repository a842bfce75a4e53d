from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.cli.terminal import on_a_terminal
from tests.operations.making import deepalign, generic, network, pair, save, tensors


def grouped_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 4)
    )


def shuffled() -> dict[str, torch.Tensor]:
    """Layers whose names say nothing and whose widths fit in two orders."""
    return {f"{name}.weight": torch.randn(8, 8) for name in ("left", "right", "middle")}


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return save(network("plain_cnn_bn", 0), tmp_path / "a.pt")


def test_the_table(a: Path) -> None:
    done = deepalign("inspect", a)

    assert done.code == 0
    assert [line.partition(" are assumed to ")[2][:13] for line in done.err.splitlines()] == [
        "",
        "run once each",
    ]
    assert "'fc1' is assumed to read the 16 places of each of the 12 channels of 'conv2'" in done.err
    rows = [line.split() for line in done.out.splitlines()]
    assert ["fc1.weight", "F32", "20x192", "fc1", "conv2*16"] in rows
    assert ["bn1.num_batches_tracked", "I64", "scalar", "-"] in rows
    assert ["conv1", "8", "permutation", "6"] in rows
    assert done.out.startswith(f"{a}: chain of convolution and linear layers; 16 tensors, 5,230 parameters\n")


def test_json(a: Path) -> None:
    told = deepalign("inspect", a, "--json").json

    assert (told["schema"], told["command"], told["prefix"]) == (1, "inspect", "")
    assert told["basis"] == "read from names and shapes"
    assert len(told["assumptions"]) == 2
    assert told["doubts"] == told["assumptions"]
    assert told["groups"]["conv2"] == {"size": 12, "kind": "permutation", "tensors": 6}
    assert told["tensors"]["fc1.weight"] == {"dtype": "F32", "shape": [20, 192], "axes": "fc1 conv2*16"}
    assert told["tensors"]["bn1.num_batches_tracked"] == {"dtype": "I64", "shape": [], "axes": None}
    assert list(told["tensors"]) == list(torch.load(a))


def test_kinds_follow_the_activation(tmp_path: Path) -> None:
    a = save(network("named_mlp", 0), tmp_path / "a.pt")
    for activation, kind in (("tanh", "sign"), ("relu", "scale"), ("gelu", "permutation")):
        groups = deepalign("inspect", a, "--activation", activation, "--json").json["groups"]
        assert {group["kind"] for group in groups.values()} == {kind}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        ("named_mlp", []),
        ("plain_cnn_bn", []),
        ("tanh_mlp", ["--activation", "tanh"]),
    ],
)
def test_a_spec_goes_round(kind: str, activation: list[str], tmp_path: Path) -> None:
    a, b = pair(tmp_path, kind)
    spec = tmp_path / "a.toml"
    printed = deepalign("inspect", a, "--spec", *activation)
    assert printed.code == 0
    spec.write_text(printed.out)
    assert set(tomllib.loads(printed.out)["axes"]) <= set(torch.load(a))

    assert deepalign("align", a, b, "-m", "weights", "-o", tmp_path / "1", *activation).code == 0
    assert deepalign("align", a, b, "-m", "weights", "-o", tmp_path / "2", "--spec", spec).code == 0
    found, given = tensors(tmp_path / "1"), tensors(tmp_path / "2")
    assert all(w.equal(given[name]) for name, w in found.items())
    shown = [deepalign("inspect", a, *args, "--json").json for args in (activation, ["--from", spec])]
    assert shown[0]["tensors"] == shown[1]["tensors"]
    assert shown[0]["groups"] == shown[1]["groups"]


@pytest.mark.slow
def test_a_spec_that_was_given_travels_with_the_output(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    spec = tmp_path / "a.toml"
    spec.write_text(deepalign("inspect", a, "--spec").out.replace("fc1", "first").replace('"first.', '"fc1.'))
    deepalign("align", a, b, "--spec", spec, "-o", tmp_path / "o")
    told = deepalign("inspect", tmp_path / "o", "--json").json

    assert set(told["groups"]) == {"first", "fc2"}
    assert told["source"] == "the metadata of o"


def test_names_in_a_spec_may_carry_the_prefix_of_the_file(tmp_path: Path) -> None:
    a = tmp_path / "a.pt"
    torch.save({f"module.{name}": w for name, w in network("named_mlp", 0).state_dict().items()}, a)
    spec = tmp_path / "a.toml"
    text = deepalign("inspect", a, "--spec").out
    spec.write_text(re.sub(r'^"(?!module)', '"module.', text, flags=re.MULTILINE))
    told = deepalign("inspect", a, "--from", spec, "--json").json

    assert told["prefix"] == "module."
    assert set(told["groups"]) == {"fc1", "fc2"}
    assert "without the prefix 'module.'" in deepalign("inspect", a).out


def test_a_blank_spec_moves_nothing_and_works_for_any_architecture(tmp_path: Path) -> None:
    a = save(
        {"what.is": torch.randn(3, 4), "this": torch.randn(4), "scalar": torch.tensor(3)}, tmp_path / "a"
    )
    assert deepalign("inspect", a).code == 3
    text = deepalign("inspect", a, "--spec", "--blank").out
    assert tomllib.loads(text)["axes"] == {"what.is": "3 4", "this": "4"}
    spec = tmp_path / "a.toml"
    spec.write_text(text)

    assert "no group of units can move" in deepalign("inspect", a, "--from", spec).out
    spec.write_text(text.replace('"3 4"', '"3 h"').replace('"4"', '"h"'))
    assert deepalign("inspect", a, "--from", spec, "--json").json["groups"]["h"]["size"] == 4


def test_an_architecture_that_is_not_known(tmp_path: Path) -> None:
    a = save({"what.is": torch.randn(3, 4), "this": torch.randn(4)}, tmp_path / "a.pt")
    done = deepalign("inspect", a, "--json")

    assert done.code == 3
    assert set(done.json["tensors"]) == {"what.is", "this"}  # headers are shown all the same
    assert done.error["code"] in ("spec", "ambiguous")
    assert "--spec" in done.error["hint"]


@pytest.mark.slow
def test_an_ambiguous_chain_is_not_guessed(tmp_path: Path) -> None:
    files = save(generic(grouped_norm, 0), tmp_path / "norm.pt"), save(shuffled(), tmp_path / "chain.pt")
    for path in files:
        for command in (["inspect", path], ["align", path, path, "-o", tmp_path / "o"]):
            done = deepalign(*command)
            lines = done.err.splitlines()
            assert (done.code, len(lines)) == (3, 2), done.err
            assert ("no group of units can move" in done.out) == (command[0] == "inspect")
            assert "--spec --blank" in lines[1]
            assert deepalign(*command, "--json").error["code"] == "ambiguous"
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_doubts_are_shown(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "tanh_mlp")
    done = deepalign("inspect", a)

    assert "assumption: '0' to '6' are assumed to run once each and in this order" in done.err
    assert "assumption: " not in done.out
    told = deepalign("inspect", a, "--json").json
    assert told["doubts"] == told["assumptions"] != []
    assert "# assumption: '0' to '6' are assumed" in deepalign("inspect", a, "--spec").out
    assert "assumption: " in deepalign("align", a, b, "-m", "weights", "-o", tmp_path / "o").err
    assert deepalign("inspect", a, "-q").err == done.err


def test_ties_are_shown(tmp_path: Path) -> None:
    shared = torch.randn(4, 4)
    torch.save({"a": shared, "b": shared}, tmp_path / "a.pt")
    spec = tmp_path / "a.toml"
    spec.write_text(deepalign("inspect", tmp_path / "a.pt", "--spec", "--blank").out)

    told = deepalign("inspect", tmp_path / "a.pt", "--from", spec, "--json").json
    assert told["tensors"]["b"]["tied_to"] == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[axes", "is not TOML"),
        ("format = 2", "has format 2"),
        ("axis = 1", "unknown entry 'axis'"),
        ('[axes]\n"fc1.weight" = 3', "are not a string"),
        ('[axes]\n"gone.weight" = "h 3"', "gone.weight"),
        ('[axes]\n"fc1.weight" = "h"', "fc1.weight"),
        ('[axes]\n"fc1.weight" = "h h h"', "fc1.weight"),
        ('[axes]\n"fc1.weight" = "16 13"', "fc1.weight"),
        ('[axes]\n"fc1.weight" = "h 12"\n"fc2.bias" = "h"', "'fc2.bias'"),
        ('[axes]\n"fc1.weight" = "h (12"', "fc1.weight"),
        ('[axes]\n"fc1.weight" = "h 12"\n[kinds]\nh = "bend"', "'bend'"),
        ('[axes]\n"fc1.weight" = "h 12"\n[kinds]\nk = "sign"', "carries the group 'k'"),
    ],
)
def test_a_wrong_spec_exits_3_and_says_where(text: str, message: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    spec = tmp_path / "a.toml"
    spec.write_text(text)
    for command in (["inspect", a, "--from", spec], ["align", a, b, "--spec", spec, "-o", tmp_path / "o"]):
        done = deepalign(*command)
        assert (done.code, done.out, len(done.err.splitlines())) == (3, "", 2), done.err
        assert message in done.err.splitlines()[0]
        assert deepalign(*command, "--json").error["code"] == "spec"
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--blank"], "--blank goes with --spec"),
        (["--from", "gone.toml"], "there is no spec file 'gone.toml'"),
        (["--heads", "4"], "has no attention heads"),
        (["--activation", "relu6"], "'relu6' is not one of"),
    ],
)
def test_usage_errors(args: list[str], message: str, a: Path) -> None:
    done = deepalign("inspect", a, *args)

    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 2)
    assert message in done.err


_AT_WIDTHS = """
import os
from deepalign_cli.cli.main import main
for columns in ("40", "100"):
    os.environ["COLUMNS"] = columns
    assert main(["inspect", {path!r}]) == 0
    print(end="\\0", flush=True)
"""


@pytest.mark.slow
def test_a_terminal_cuts_nothing(tmp_path: Path) -> None:
    a = save(network("cifar_resnet", 0), tmp_path / "a.pt")

    narrow, wide = on_a_terminal(_AT_WIDTHS.format(path=str(a)), 80).split("\0")[:-1]

    for shown, columns in ((narrow, 40), (wide, 100)):
        assert "…" not in shown
        joined = re.sub(r"\s+", "", shown)
        for name in torch.load(a):
            assert name in joined
        assert all(len(line) <= columns for line in shown.splitlines())
    assert len(wide.splitlines()) < len(narrow.splitlines())


_ONE_AFTER_ANOTHER = """
import contextlib, gc, io, os, sys
from deepalign_cli.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(["inspect", *sys.argv[1:]])  # what it imports is there from now on
gc.freeze()  # of which an exit would look through everything
codes = []
for words in ([], ["--spec"], ["--json"]):
    if not (child := os.fork()):
        sys.exit(main(["inspect", *sys.argv[1:], *words]))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*codes, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_reader_that_has_gone_is_not_complained_to(a: Path) -> None:
    argv = [sys.executable, "-c", _ONE_AFTER_ANOTHER, str(a)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stream:
        told = stream.read()
    lines = [line for line in told.splitlines() if not line.startswith(b"assumption: ")]
    assert (process.wait(), lines) == (0, [b"141 141 141"])
