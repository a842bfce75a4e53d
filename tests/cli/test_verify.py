from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from deepalign_cli.symmetry.spec import Activation
from tests import nets
from tests.operations.making import deepalign, generic, network, pair, planted, save, tensors

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 5)
        self.activation = activation

    def forward(self, x):
        return self.fc3(self.activation(self.fc2(self.activation(self.fc1(x)))))

def make():
    return Net(torch.relu)

def make_tanh():
    return Net(torch.tanh)

def wider():
    net = make()
    net.fc2 = nn.Linear(16, 17)
    net.extra = nn.Linear(1, 1)
    return net

def raises():
    raise LookupError("no data here")

def number():
    return 3

def takes_one(width):
    return make()

constant = 4
"""
CONVOLUTION = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""


def square() -> nn.Module:
    return nets.named_mlp((12, 16, 16, 5))


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return save(generic(square, 0), tmp_path / "a.pt")


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return save(generic(square, 1), tmp_path / "b.pt")


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(FACTORY)
    return f"{tmp_path / 'net.py'}:make"


@pytest.fixture
def spec(a: Path, tmp_path: Path) -> Path:
    path = tmp_path / "a.toml"
    path.write_text(deepalign("inspect", a, "--spec").out)
    return path


def edit(spec: Path, old: str, new: str) -> None:
    text = spec.read_text()
    assert text.count(old) == 1
    spec.write_text(text.replace(old, new))


# --- are they the same? ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "plain_cnn_bn", "cifar_resnet"])
def test_a_planted_permutation_is_the_same_function(kind: str, tmp_path: Path) -> None:
    a = save(network(kind, 0), tmp_path / "a.pt")
    element = planted(a, tmp_path / "b.pt")
    done = deepalign("verify", a, tmp_path / "b.pt")
    told = deepalign("verify", a, tmp_path / "b.pt", "--json").json

    assert done.code == 0
    assert "the same up to the spec (" in done.out
    assert "residual 0" in done.out
    assert (told["schema"], told["command"], told["same"], told["residual"]) == (1, "verify", True, 0)
    assert {g: row["moved"] for g, row in told["groups"].items()} == {
        g: element.inverse().moved(g) for g in element.perm
    }


@pytest.mark.slow
def test_planted_signs_are_found_with_the_activation_only(tmp_path: Path) -> None:
    a = save(network("tanh_mlp", 0), tmp_path / "a.pt")
    planted(a, tmp_path / "b.pt", Activation.TANH)

    signed = deepalign("verify", a, tmp_path / "b.pt", "--activation", "tanh", "--json")
    assert (signed.code, signed.json["residual"]) == (0, 0)
    plain = deepalign("verify", a, tmp_path / "b.pt", "--json")
    assert (plain.code, plain.json["same"]) == (1, False)
    assert plain.json["worst"] in torch.load(a)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planted_scales_are_found_with_the_activation_only(dtype: torch.dtype, tmp_path: Path) -> None:
    a = save(generic(square, 0, dtype), tmp_path / "a.pt")
    planted(a, tmp_path / "b.pt", Activation.RELU)

    scaled = deepalign("verify", a, tmp_path / "b.pt", "--activation", "relu", "--json")
    assert (scaled.code, scaled.json["same"]) == (0, True)
    assert scaled.json["residual"] <= scaled.json["tolerance"] < 1e-5
    assert deepalign("verify", a, tmp_path / "b.pt").code == 1


def test_what_align_made_is_b(a: Path, b: Path, tmp_path: Path) -> None:
    deepalign("align", a, b, "-o", tmp_path / "o")

    assert deepalign("verify", b, tmp_path / "o", "--json").json["residual"] == 0
    assert deepalign("verify", a, tmp_path / "o").code == 1


@pytest.mark.slow
def test_different_networks_are_not(a: Path, b: Path) -> None:
    done = deepalign("verify", a, b)
    told = deepalign("verify", a, b, "--json")
    quiet = deepalign("verify", a, b, "-q")

    assert done.code == 1
    assert done.out.startswith("not the same up to the spec: residual ")
    assert (told.code, told.json["same"]) == (1, False)
    assert (quiet.code, quiet.out) == (1, "")
    assert all(line.startswith("assumption: ") for line in quiet.err.splitlines())


@pytest.mark.slow
def test_one_changed_weight_is_noticed(a: Path, tmp_path: Path) -> None:
    planted(a, tmp_path / "b.safetensors")
    state = tensors(tmp_path / "b.safetensors")
    state["fc2.weight"][3, 4] += 0.01
    save(state, tmp_path / "c.pt")
    done = deepalign("verify", a, tmp_path / "c.pt", "--json")

    assert (done.code, done.json["worst"]) == (1, "fc2.weight")
    assert deepalign("verify", a, tmp_path / "c.pt", "--tolerance", 0.1).code == 0


@pytest.mark.slow
def test_a_changed_statistic_or_counter_is_noticed(tmp_path: Path) -> None:
    a = save(network("plain_cnn_bn", 0), tmp_path / "a.pt")
    for name in ("bn1.running_var", "bn2.num_batches_tracked"):
        state = torch.load(a)
        state[name] = state[name] + 1
        done = deepalign("verify", a, save(state, tmp_path / "b.pt"), "--json")
        assert (done.code, done.json["worst"]) == (1, name)


def test_half_types_are_the_same_within_their_rounding(tmp_path: Path) -> None:
    a = save(generic(square, 0), tmp_path / "a.pt")
    planted(a, tmp_path / "b.pt")
    save({name: w.half() for name, w in torch.load(tmp_path / "b.pt").items()}, tmp_path / "h.pt")
    done = deepalign("verify", a, tmp_path / "h.pt", "--json")

    assert done.code == 0
    assert 0 < done.json["residual"] < done.json["tolerance"]


# --- does the spec hold? --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_right_spec_holds(a: Path, b: Path, model: str, spec: Path) -> None:
    for args in ([], ["--spec", spec], ["--input-shape", "12"], ["--activation", "relu"]):
        done = deepalign("verify", a, a, "--model", model, *args)
        assert done.code == 0
        assert "the spec holds: " in done.out
    told = deepalign("verify", a, b, "--model", model, "--json")
    assert told.code == 1
    assert told.json["spec"]["passed"] is True
    assert told.json["spec"]["residual"] <= 1e-9
    assert told.json["spec"]["suspects"] == {}


@pytest.mark.slow
def test_a_wrong_activation_breaks_the_spec(a: Path, model: str) -> None:
    right = deepalign("verify", a, a, "--model", f"{model}_tanh", "--activation", "tanh")
    wrong = deepalign("verify", a, a, "--model", model, "--activation", "tanh", "--json")

    assert right.code == 0
    assert wrong.code == 3  # the network was traced, and has no odd functions
    assert "sign" in wrong.error["message"]


@pytest.mark.slow
def test_a_convolution_is_run_on_images(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CONVOLUTION)
    scope: dict[str, object] = {}
    exec(CONVOLUTION, scope)
    a = save(generic(scope["make"], 0), tmp_path / "a.pt")  # type: ignore[arg-type]
    for args in ([], ["--input-shape", "3x9x7"], ["--input-shape", "3X8X8"]):
        assert deepalign("verify", a, a, "--model", f"{tmp_path / 'net.py'}:make", *args).code == 0


TOKENS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, bag=False):
        super().__init__()
        self.embed = nn.EmbeddingBag(40, 12) if bag else nn.Embedding(40, 12)
        self.fc1, self.fc2 = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x)
        return self.fc2(self.fc1(x if x.ndim == 2 else x.mean(1)).relu())
"""
TOKEN_SPEC = """
[axes]
"embed.weight" = "40 e"
"fc1.weight" = "h e"
"fc1.bias" = "h"
"fc2.weight" = "3 h"
"fc2.bias" = "3"
"""


@pytest.mark.slow
@pytest.mark.parametrize("bag", [False, True])
def test_networks_of_tokens_are_run_on_random_ones_or_on_data(bag: bool, tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(TOKENS, scope)
    (tmp_path / "net.py").write_text(TOKENS)
    (tmp_path / "s.toml").write_text(TOKEN_SPEC)
    (tmp_path / "bad.toml").write_text(TOKEN_SPEC.replace('"40 e"', '"40 12"'))
    np.savez_compressed(tmp_path / "t.npz", tokens=np.arange(60).reshape(10, 6) % 40)
    a = save(generic(scope["Net"], 0), tmp_path / "a.pt")
    model = ("--model", f"{tmp_path / 'net.py'}:Net", "--model-arg", f"bag={bag}")
    for args in ([], ["--input-shape", "5"], ["--data", tmp_path / "t.npz"]):
        for spec, code in (("s.toml", 0), ("bad.toml", 3)):
            done = deepalign("verify", a, a, *model, "--spec", tmp_path / spec, *args)
            assert done.code == code, done.err
            assert ("the spec holds" in done.out) == (code == 0)


@pytest.mark.slow
def test_the_spec_is_checked_on_the_examples_that_are_given(a: Path, tmp_path: Path) -> None:
    strict = "def forward(self, x):\n        x = x.flatten(1)\n        assert (x == 3).all()"
    (tmp_path / "net.py").write_text(FACTORY.replace("def forward(self, x):", strict))
    model = ("--model", f"{tmp_path / 'net.py'}:make")
    np.savez(tmp_path / "d.npz", images=np.full((10, 3, 4), 255, "u1"))
    raw = ("--data", tmp_path / "d.npz", "--normalise")
    assert deepalign("verify", a, a, *model, *raw, "0.25,0.25").code == 0
    refused = deepalign("verify", a, a, *model, *raw, "unit")
    assert refused.code == 3
    assert "does not run on" in refused.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "d.npz", "--input-shape", "3"], "--data and --input-shape exclude each other"),
        (["--grey"], "--normalise, --side and --grey prepare --data"),
    ],
)
def test_options_that_do_not_go_together(a: Path, args: list[str], message: str) -> None:
    done = deepalign("verify", a, a, *args)
    assert done.code == 2
    assert message in done.err


def test_a_checkpoint_with_a_prefix_fits_the_bare_model(a: Path, model: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": w for k, w in torch.load(a).items()}}, tmp_path / "p.pt")

    assert deepalign("verify", tmp_path / "p.pt", a, "--model", model).code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "group", "suspect"),
    [
        (
            '"fc2.weight" = "fc2 fc1"',
            '"fc2.weight" = "fc2 16"',
            "fc1",
            "fc2.weight (axis 1 should carry 'fc1')",
        ),
        ('"fc1.bias" = "fc1"', '"fc1.bias" = "fc2"', "fc2", "fc1.bias (axis 0 should not carry 'fc2')"),
        ('"fc2.bias" = "fc2"', '"fc2.bias" = "16"', "fc2", "fc2.bias (axis 0 should carry 'fc2')"),
        ('"fc3.weight" = "5 fc2"', '"fc3.weight" = "5 16"', "fc2", "fc3.weight (axis 1 should carry 'fc2')"),
    ],
)
def test_a_broken_spec_is_reported_with_the_tensors_to_suspect(
    a: Path, model: str, spec: Path, old: str, new: str, group: str, suspect: str
) -> None:
    edit(spec, old, new)
    done = deepalign("verify", a, a, "--model", model, "--spec", spec)
    told = deepalign("verify", a, a, "--model", model, "--spec", spec, "--json")

    assert (done.code, told.code) == (3, 3)
    assert "the spec is wrong: " in done.out
    assert f"group '{group}': suspect {suspect}" in done.out
    assert told.json["spec"]["passed"] is False
    assert told.json["spec"]["residual"] > 1e-9
    assert suspect in told.json["spec"]["suspects"][group]


# --- what may be wrong with the model -------------------------------------------------------------


def test_a_model_whose_own_names_have_the_prefix_is_run_as_it_is(a: Path, tmp_path: Path) -> None:
    inside = FACTORY + "\n\nclass Outer(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    inside += "        self.model = make()\n\n    def forward(self, x):\n        return self.model(x)\n"
    (tmp_path / "outer.py").write_text(inside)

    done = deepalign("verify", a, a, "--model", f"{tmp_path / 'outer.py'}:Outer")

    assert (done.code, done.err.count("error")) == (0, 0), done.err
    assert "the spec holds" in done.out


def test_the_factory_gets_its_arguments(a: Path, model: str) -> None:
    file = model.rpartition(":")[0]

    assert deepalign("verify", a, a, "--model", f"{file}:takes_one", "--model-arg", "width=16").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "args", "code", "message"),
    [
        ("net.py:raises", [], 1, "raised LookupError: no data here"),
        ("net.py:takes_one", [], 1, "raised TypeError: "),
        ("net.py:gone", [], 2, "has no callable 'gone'"),
        ("net.py:constant", [], 2, "has no callable 'constant'"),
        ("net.py:number", [], 2, "returned int, not an nn.Module"),
        ("net.py:wider", [], 3, "the model does not fit the checkpoint: 'fc2.weight'"),
        ("gone.py:make", [], 2, "there is no file 'gone.py'"),
        ("net.py", [], 2, "does not name a Python file and a factory in it"),
        (":make", [], 2, "does not name a Python file and a factory in it"),
        ("net.py:", [], 2, "does not name a Python file and a factory in it"),
        ("a.pt:make", [], 2, "is not a Python file"),
        ("broken.py:make", [], 1, "raised SyntaxError: "),
        ("exits.py:make", [], 1, "raised SystemExit: "),
        ("net.py:make", ["--input-shape", "3x"], 2, "'3x' is not an input shape"),
        ("net.py:make", ["--input-shape", "0"], 2, "'0' is not an input shape"),
        ("net.py:make", ["--input-shape", "twelve"], 2, "'twelve' is not an input shape"),
        ("net.py:make", ["--input-shape", "13"], 2, "the model does not run on inputs"),
        ("net.py:make", ["--input-shape", "3x32x32"], 2, "the model does not run on inputs"),
        ("odd.py:make", [], 2, "the model runs on no usual input shape"),
        ("none.py:make", [], 2, "returned NoneType"),
    ],
)
def test_a_model_that_is_not_right(
    factory: str, args: list[str], code: int, message: str, a: Path, model: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("def make(:\n")
    Path("exits.py").write_text("import sys\n\ndef make():\n    sys.exit(3)\n")
    picky = "        if x.shape[1:] != (3, 12):\n            raise ValueError('odd')\n        return self.fc3"
    Path("odd.py").write_text(FACTORY.replace("        return self.fc3", picky))
    Path("none.py").write_text(FACTORY.replace("        return self.fc3", "        return None and self.fc3"))

    done = deepalign("verify", a, a, "--model", factory, *args)
    told = deepalign("verify", a, a, "--model", factory, *args, "--json")

    lines = done.err.splitlines()
    assert (done.code, done.out, len(lines)) == (code, "", 2), done.err
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert lines[1].startswith("hint: ")
    assert (told.code, told.out) == (code, "")
    assert message in told.error["message"]


def test_another_architecture_exits_3(a: Path, tmp_path: Path) -> None:
    other, _ = pair(tmp_path, "plain_cnn")
    planted(other, tmp_path / "c.pt")
    assert deepalign("verify", save(generic(square, 0), a), tmp_path / "c.pt").code == 3
