"""The verbs of `import deepalign_cli as da`."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

import deepalign_cli as da
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.errors import DeepalignError, MismatchError, NonFiniteError, UsageError
from tests import nets
from tests.api.builders import examples, net, stored
from tests.operations.making import deepalign, generic, metadata, save

Form = Callable[[nn.Module, Path], Any]

FORMS: dict[str, Form] = {
    "path": lambda module, file: save(module, file),
    "str": lambda module, file: str(save(module, file)),
    "checkpoint": lambda module, file: da.open(save(module, file)),
    "state dict": lambda module, _: module.state_dict(),
    "module": lambda module, _: module,
}
FAST: dict[str, Any] = {"method": "weights", "restarts": 1}


def same(one: Any, other: Any) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_verb_takes_a_network_in_every_form(form: str, tmp_path: Path) -> None:
    modules = [net(seed) for seed in range(3)]
    a, b, c = (FORMS[form](module, tmp_path / f"{i}.pt") for i, module in enumerate(modules))
    data, model = examples(), net(9)

    alignment = da.align(a, b, **FAST)
    assert same(alignment.element.perm, da.align(modules[0], modules[1], **FAST).element.perm)
    assert same(da.merge([a, b, c], **FAST), da.merge(modules, **FAST))
    curve = da.barrier(a, b, model=model, data=data, points=3, **FAST).curve
    assert curve.losses == da.barrier(modules[0], modules[1], data=data, points=3, **FAST).curve.losses
    assert set(da.landscape(a, b, c, model=model, data=data, points=3).report.at) == {
        f"{letter}: {da.open(x).called if 'path' in form or form in ('str', 'checkpoint') else letter}"
        for letter, x in zip("ABC", (a, b, c), strict=True)
    }
    assert da.verify(a, alignment.apply(modules[0].state_dict())).same
    assert not da.verify(a, b).same
    assert list(da.open(a)) == list(modules[0].state_dict())


def test_forms_may_be_mixed_and_a_merged_network_is_one_of_them(tmp_path: Path) -> None:
    a, b, c = (net(seed) for seed in range(3))
    pair = da.merge([a, save(b, tmp_path / "b.pt")], **FAST)
    assert len(da.merge([pair, c.state_dict()], **FAST)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_align_moves_units_and_nothing_else(dtype: torch.dtype) -> None:
    a, b = net(0, dtype), net(1, dtype)
    alignment = da.align(a, b)
    assert alignment.moved > 30

    moved = copy.deepcopy(b)
    moved.load_state_dict(alignment.apply(b.state_dict()))

    for name, w in moved.state_dict().items():
        assert not torch.equal(w, b.state_dict()[name]) or name == "fc3.bias"
        assert torch.equal(w.flatten().sort().values, b.state_dict()[name].flatten().sort().values)
    x = examples()[0].double()
    with torch.no_grad():  # run in float64: the order of sums is all that differs
        assert torch.allclose(moved.double()(x), b.double()(x), rtol=0, atol=1e-13)


def test_a_planted_element_is_undone_exactly() -> None:
    a = net(0, torch.float64)
    spec = da.align(a, a, method="none").symmetry
    g = spec.random(torch.Generator().manual_seed(0))
    alignment = da.align(a, spec.apply(g, a.state_dict()))
    assert same(alignment.apply(spec.apply(g, a.state_dict())), a.state_dict())
    assert alignment.distance_after == 0


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_the_callers_modules_are_left_as_they_are(training: bool, tmp_path: Path) -> None:
    modules = [generic(nets.mlp_batchnorm, seed).train(training) for seed in range(2)]
    x, y = examples()
    modules[0](x).sum().backward()
    before = copy.deepcopy([module.state_dict() for module in modules])
    gradients = [None if p.grad is None else p.grad.clone() for p in modules[0].parameters()]

    da.align(*modules, method="activations", data=x, out=tmp_path / "b.safetensors")
    merged = da.merge(modules, data=(x, y), repair=True, **FAST)
    for w in merged.values():
        w.zero_()
    da.barrier(*modules, data=(x, y), points=3, repair=True, **FAST)
    da.landscape(*modules, data=(x, y), points=3, **FAST)
    da.verify(*modules)

    assert [module.training for module in modules] == [training] * 2
    assert all(same(module.state_dict(), old) for module, old in zip(modules, before, strict=True))
    assert all(p.requires_grad and not p.is_meta for module in modules for p in module.parameters())
    for p, old in zip(modules[0].parameters(), gradients, strict=True):
        assert p.grad is not None
        assert old is not None
        assert torch.equal(p.grad, old)


@pytest.mark.slow
def test_results_are_those_of_the_command_line(tmp_path: Path) -> None:
    a, b = (save(net(seed), tmp_path / f"{seed}.safetensors") for seed in range(2))
    data, words = stored(tmp_path), ["--activation", "relu", "--seed", "3"]
    options: dict[str, Any] = {"activation": "relu", "seed": 3}

    aligned, merged = tmp_path / "aligned.safetensors", tmp_path / "merged.safetensors"
    assert deepalign("align", a, b, "-o", aligned, *words).code == 0
    assert same(dict(da.align(a, b, **options).apply(da.open(b))), load_file(aligned))
    assert deepalign("merge", a, b, "--alpha", 0.3, "--combine", "slerp", "-o", merged, *words).code == 0
    assert same(da.merge([a, b], alpha=0.3, combine="slerp", **options), load_file(merged))
    names = ["weights", "activations"]
    line = ["barrier", a, b, "--data", data, "-m", *" -m ".join(names).split(), "--points", 3, *words]
    told = deepalign(*line, "--json").json
    measured = da.barrier(a, b, data=str(data), method=names, points=3, **options)
    assert [path["loss"] for path in told["paths"]] == [list(c.losses) for c in measured.curves]
    line = ["landscape", a, b, "--data", data, "-o", tmp_path / "x.svg", "--points", 3, *words]
    landscape = da.landscape(a, b, data=data, points=3, **options)
    assert deepalign(*line, "--json").json["at"] == landscape.report.at
    assert deepalign("verify", a, b, "--json").json["residual"] == da.verify(a, b).residual


def test_networks_are_merged_on_a_base_as_by_the_command_line(tmp_path: Path) -> None:
    base, b, c = (save(net(seed), tmp_path / f"{seed}.safetensors") for seed in range(3))
    out, words = tmp_path / "m.safetensors", ["--base", base, "--density", "0.5,0.3", "--lambda", "0.7"]
    words += ["--combine", "dare_ties", "--weights", "1,-0.5", "--seed", "3", "-m", "none"]
    assert deepalign("merge", b, c, *words, "-o", out).code == 0
    options: dict[str, Any] = {"weights": [1, -0.5], "density": [0.5, 0.3], "lambda_": 0.7, "seed": 3}
    merged = da.merge([b, c], base=base, combine="dare_ties", method="none", **options)
    assert same(merged, load_file(out))

    words = ["--weights-for", "weight=1/0.5,0", "-m", "none", "--weights", "2,1"]
    assert deepalign("merge", b, c, *words, "-o", out, "--force").code == 0
    for lists in ("1/0.5,0", "1.0/.5,0"):
        merged = da.merge([b, c], weights=[2, 1], weights_for={"weight": lists}, method="none")
        assert same(merged, load_file(out))

    one = da.merge([net(1)], base=net(0), combine="task_arithmetic", method="none")
    assert all(torch.allclose(w, one[name], atol=1e-6) for name, w in net(1).state_dict().items())


@pytest.mark.slow
def test_out_writes_what_is_returned_with_its_making(tmp_path: Path) -> None:
    a, b = save(net(0), tmp_path / "a.pt"), net(1)
    alignment = da.align(a, b, out=tmp_path / "b.safetensors", **FAST)
    assert same(load_file(tmp_path / "b.safetensors"), alignment.apply(b.state_dict()))
    merged = da.merge([a, b], alpha=0.25, out=str(tmp_path / "m.safetensors"), **FAST)
    assert same(load_file(tmp_path / "m.safetensors"), merged)
    made = metadata(tmp_path / "m.safetensors")
    assert (made["deepalign.input.0"], made["deepalign.input.1"]) == ("a.pt", "B")
    assert made["deepalign.sha256.1"] == da.open(b).sha256()
    assert made["deepalign.weights"] == "[0.75, 0.25]"
    with pytest.raises(UsageError, match="exists"):
        da.merge([a, b], out=tmp_path / "m.safetensors", **FAST)
    da.merge([a, b], out=tmp_path / "m.safetensors", force=True, **FAST)
    with pytest.raises(UsageError, match="input"):
        da.align(a, b, out=a, force=True, **FAST)


def test_what_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepalign_cli.operations.session.Session.alignments", None)
    for verb in (
        lambda out: da.align(net(0), net(1), out=out),
        lambda out: da.merge([net(0), net(1)], out=out),
    ):
        with pytest.raises(UsageError):
            verb(tmp_path / "x.pt")
        (tmp_path / "model.safetensors").touch()
        with pytest.raises(UsageError):  # a folder, whose weights are not overwritten
            verb(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        examples(),
        tuple(part.numpy() for part in examples()),
        [part.tolist() for part in examples()],
        TensorDataset(*examples()),
        DataLoader(TensorDataset(*examples()), batch_size=7),
        DataLoader(TensorDataset(*examples()), batch_size=7, collate_fn=lambda items: default_collate(items)),
        {"test": examples(), "train": (torch.zeros(3, 12), torch.zeros(3).long())},
        {"train": (np.zeros((3, 12), np.float32), np.zeros(3, int)), "val": TensorDataset(*examples())},
    ],
    ids=["tensors", "arrays", "lists", "Dataset", "DataLoader", "own collate", "splits", "validation"],
)
def test_data_in_every_form_are_the_same_data(data: object, tmp_path: Path) -> None:
    a, b = net(0), net(1)
    wanted = da.barrier(a, b, data=stored(tmp_path), points=3, method="none")
    measured = da.barrier(a, b, data=data, points=3, method="none")
    assert measured.curve.losses == wanted.curve.losses
    assert measured.curve.accuracies == wanted.curve.accuracies
    assert measured.report.data[0].startswith("data")


def test_splits_can_be_chosen_and_examples_counted() -> None:
    data = {"train": examples(30), "test": examples()}
    measured = da.barrier(
        net(0), net(1), data=data, splits=("test", "train"), limit=20, method="none", points=3
    )
    assert measured.report.data == ("data, test, 20 examples", "data, train, 20 examples")
    (name,) = da.barrier(net(0), net(1), data=data, splits="train", method="none", points=3).report.data
    assert name == "data, train, 30 examples"


def test_pixels_are_normalised() -> None:
    x, y = examples()
    pixels, nothing = (x.abs() * 60).to(torch.uint8), {"method": "none", "points": 3}
    with pytest.raises(DeepalignError, match="pixels from 0 to 255"):
        da.barrier(net(0), net(1), data=(pixels, y), **nothing)
    scaled = da.barrier(net(0), net(1), data=(pixels, y), normalize="unit", **nothing)
    assert scaled.curve.losses == da.barrier(net(0), net(1), data=(pixels / 255, y), **nothing).curve.losses


def test_the_loss_may_be_a_function() -> None:
    x, _ = examples()
    data, a, b = (x, torch.randn(len(x), 5)), net(0), net(1)
    options: dict[str, Any] = {"data": data, "points": 3, "method": "none"}
    own = da.barrier(a, b, loss=nn.MSELoss(), **options)
    assert own.report.loss == "MSELoss"
    assert own.curve.losses == pytest.approx(da.barrier(a, b, loss="mse", **options).curve.losses)


@pytest.mark.slow
def test_models_are_given_as_on_the_command_line_too(tmp_path: Path) -> None:
    (tmp_path / "own_net.py").write_text(
        "from tests import nets\ndef make(width):\n    return nets.named_mlp((12, width, 20, 5))\n"
    )
    a, b = (save(net(seed), tmp_path / f"{seed}.pt") for seed in range(2))
    options: dict[str, Any] = {"data": examples(), "points": 3, "method": "none"}
    wanted = da.barrier(a, b, model=net(5), **options)
    for model, more in (
        (f"{tmp_path / 'own_net.py'}:make", {"arguments": {"width": 16}}),
        (None, {"activation": "relu"}),
        (None, {"design": {"kind": "mlp", "sizes": "12,16,20,5", "activation": "relu"}}),
    ):
        assert da.barrier(a, b, model=model, **more, **options).curve.losses == wanted.curve.losses


def test_inputs_given_with_a_model_show_more_than_the_data() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.side = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(4, 8)

        def forward(self, x: torch.Tensor, t: torch.Tensor | None = None) -> Any:
            h = self.fc1(x) if t is None else self.fc1(x) + self.side(t)
            return self.fc2(h.relu())

    a, b = Shortcut(), Shortcut()
    x, t = torch.randn(5, 6), torch.randn(5, 4)
    spec = da.align(a, b, model=(a, (x, t)), data=x, method="activations").symmetry.spec
    assert str(spec.axes["side.weight"][0]) == str(spec.axes["fc1.weight"][0])


def test_a_spec_is_a_file_or_a_spec(tmp_path: Path) -> None:
    a, b = net(0), net(1)
    spec = da.align(a, b, method="none").symmetry.spec
    half = da.Spec.parse(str(spec).replace("+fc2", "20").replace("-fc2", "20"))
    (tmp_path / "a.toml").write_text(str(half))
    given = da.align(a, b, spec=half, **FAST)
    assert list(given.groups) == ["fc1"]
    for place in (tmp_path / "a.toml", str(tmp_path / "a.toml")):
        assert same(da.align(a, b, spec=place, **FAST).element.perm, given.element.perm)
    da.align(a, b, spec=half, out=tmp_path / "out", **FAST)
    assert "deepalign.spec" in metadata(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_wrapped_networks_keep_their_own_names(prefix: str) -> None:
    a, b = net(0), net(1)
    wrapped: Any = nn.Module()
    wrapped.module = a
    source = wrapped if prefix == "module." else {prefix + n: w for n, w in a.state_dict().items()}
    merged = da.merge([source, b], **FAST)
    assert list(merged) == [prefix + name for name in a.state_dict()]
    if prefix == "module.":
        wrapped.load_state_dict(merged)
    other = {prefix + name: w for name, w in b.state_dict().items()}
    assert same({prefix + n: w for n, w in da.align(a, b, **FAST).apply(b.state_dict()).items()},
                dict(da.align(source, other, **FAST).apply(other)))  # fmt: skip
    curve = da.barrier(source, b, model=a, data=examples(), points=3, **FAST).curve
    assert curve.losses == da.barrier(a, b, data=examples(), points=3, **FAST).curve.losses


class Tied(nn.Module):
    """An embedding whose table is the last layer's, a counter, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(12, 16)
        self.decode = nn.Linear(12, 16, bias=False)
        self.decode.weight = self.encode.weight
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("shift", torch.ones(12), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.encode(x + self.shift))  # type: ignore[operator]
        return nn.functional.linear(hidden, self.decode.weight.T)


TIED = """
[axes]
"encode.weight" = "k 12"
"encode.bias" = "k"
"decode.weight" = "k 12"
"""


def test_tied_tensors_stay_tied_and_counters_stay_whole() -> None:
    nets_ = [Tied(), Tied()]
    nets_[1].steps += 1
    spec, x = da.Spec.parse(TIED), torch.randn(30, 12)
    merged = da.merge(nets_, spec=spec, **FAST)
    assert torch.equal(merged["encode.weight"], merged["decode.weight"])
    assert merged["steps"].item() == 7
    merged["steps"] += 1
    assert nets_[0].steps.item() == 7  # the caller's own is not what was returned
    curve = da.barrier(*nets_, spec=spec, data=(x, x), points=3, **FAST).curve
    assert curve.losses[0] == pytest.approx(float(nn.functional.mse_loss(nets_[0](x), x).detach()), rel=1e-5)
    loose = nets_[0].state_dict() | {"decode.weight": torch.zeros(16, 12)}
    with pytest.raises(DeepalignError, match="one tensor in the model but differ"):
        da.barrier(loose, nets_[1], model=Tied(), spec=spec, data=(x, x), points=3, **FAST)


def test_half_precision_runs_and_keeps_its_type() -> None:
    a, b = net(0, torch.float16), net(1, torch.bfloat16)
    merged = da.merge([a, b], **FAST)
    assert {w.dtype for w in merged.values()} == {torch.float16}
    assert da.barrier(a, b, data=examples(), points=3, **FAST).curve.is_finite


@pytest.mark.slow
def test_notes_tell_what_was_taken_for_granted() -> None:
    a, b = (generic(lambda: nets.mlp((12, 16, 16, 5), norm="batch"), seed) for seed in range(2))
    alignment, merged = da.align(a, b), da.merge([a, b])
    assert any(note.startswith("universal-v1") for note in alignment.notes)
    assert not any(note.startswith("assumption: ") for note in alignment.notes)  # the modules were asked
    read = da.align(a.state_dict(), b.state_dict())
    assert any(note.startswith("assumption: ") for note in read.notes)
    assert set(alignment.notes) < set(merged.notes)
    assert any("BatchNorm statistics were averaged" in note for note in merged.notes)
    for result in (
        da.barrier(a, b, data=examples(), points=3, **FAST),
        da.landscape(a, b, data=examples(), points=3, **FAST),
    ):
        assert any(note == "run as Sequential" for note in result.notes)
    extra = {**a.state_dict(), "epoch": 3}
    assert "left out what is not a tensor: 'epoch'" in da.merge([extra, b], **FAST).notes
    assert da.verify(a, a).notes == ()


@pytest.mark.slow
def test_alignments_are_used_again() -> None:
    a, b = net(0), net(1)
    alignment = da.align(a, b, **FAST)
    aligned = alignment.apply(b.state_dict())
    for alpha in (0.3, 0.7):
        wanted = da.merge([a, b], alpha=alpha, **FAST)
        assert same(da.merge([a, aligned], alpha=alpha, method="none"), wanted)


@pytest.mark.slow
def test_repair_puts_statistics_right() -> None:
    a, b = (generic(nets.mlp_batchnorm, seed) for seed in range(2))
    plain = da.merge([a, b], **FAST)
    repaired = da.merge([a, b], data=examples()[0], repair=True, **FAST)
    changed = {name for name in plain if not torch.equal(plain[name], repaired[name])}
    assert changed > {name for name in plain if "running" in name}
    assert any(note.startswith("repaired on data, 40 examples") for note in repaired.notes)


A, B = net(0), net(1)
NAN = {name: w * float("nan") for name, w in B.state_dict().items()}
ODD = {"strange": torch.ones(3, 4, 5)}
X, Y = examples()


def on_base(combine: str, **options: Any) -> Any:
    return da.merge([A, B], base=A, combine=combine, **options)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: da.merge([A]), UsageError, "two networks or more"),
        (lambda: da.merge("a.pt"), UsageError, "two networks or more"),
        (lambda: da.align("none.pt", B), UsageError, "none.pt"),
        (lambda: da.align(A, B, method="magic"), UsageError, "no method 'magic'"),
        (lambda: da.align(A, B, restart=3), UsageError, "no option 'restart'"),
        (lambda: da.align(A, B, restarts=3), UsageError, "method 'deepalign' makes no use of 'restarts'"),
        (lambda: da.align(A, B, steps=3), UsageError, "method 'deepalign' makes no use of 'steps'"),
        (lambda: da.align(A, B, sketches=0), UsageError, "sketches is 0"),
        (lambda: da.align(A, B, activation="step"), UsageError, "no activation 'step'"),
        (lambda: da.align(A, B, method="activations"), UsageError, "data"),
        (lambda: da.align(A, B, model=3), UsageError, "int is not a model"),
        (lambda: da.align(A, B, limit=3), UsageError, "without data, 'limit' has no effect"),
        (lambda: da.align(A, nets.named_mlp((12, 8, 20, 5))), MismatchError, "'fc1.weight'"),
        (lambda: da.align(A, nets.mlp()), MismatchError, "'B' lacks"),
        (lambda: da.align(A, NAN), NonFiniteError, "'B' holds NaN"),
        (lambda: da.align(ODD, ODD), DeepalignError, "'A'"),
        (lambda: da.merge([A, B, A], alpha=0.5), UsageError, "alpha is for two networks"),
        (lambda: da.merge([A, B], alpha=0.5, weights=[1, 1]), UsageError, "alpha is for two networks"),
        (lambda: da.merge([A, B], alpha=1.5), UsageError, "alpha is 1.5"),
        (lambda: da.merge([A, B], weights=[1, 1, 1]), UsageError, "3 weights are given for 2"),
        (lambda: da.merge([A, B], weights=[-1, 1]), UsageError, "not negative"),
        (lambda: da.merge([A, B], combine="mix"), UsageError, "no combiner 'mix'"),
        (lambda: da.merge([A, B], base=A), UsageError, "combine='linear' makes no use of base"),
        (lambda: da.merge([A, B], combine="ties"), UsageError, "combine='ties' needs the base"),
        (lambda: da.merge([A, B], density=0.5), UsageError, "combine='linear' makes no use of density"),
        (lambda: on_base("sce", lambda_=2), UsageError, "combine='sce' makes no use of lambda_"),
        (lambda: on_base("sce", weights=[1, 1]), UsageError, "combine='sce' makes no use of weights"),
        (lambda: on_base("sce", weights_for={"0": [1]}), UsageError, "makes no use of weights_for"),
        (lambda: da.merge([A, B], weights_for={"0": [2]}), UsageError, "not negative"),
        (lambda: on_base("ties", alpha=0.5), UsageError, "alpha is for two networks"),
        (lambda: on_base("ties", density=0), UsageError, "--density is 0"),
        (lambda: on_base("ties", density="half"), UsageError, "--density is 'half'"),
        (lambda: on_base("ties", density=[0.5]), UsageError, "1 values of --density are given for 2"),
        (lambda: on_base("della", density=0.1), UsageError, "do not go together"),
        (lambda: da.merge([A, B], repair=True), UsageError, "repair needs data"),
        (lambda: da.merge([A, B], out="x.pt"), UsageError, "x.pt"),
        (lambda: da.barrier(A, B), UsageError, "measured on data"),
        (lambda: da.landscape(A, B), UsageError, "measured on data"),
        (lambda: da.barrier(A, B, data=X), DeepalignError, "no labels"),
        (lambda: da.barrier(A, B, data=(X, Y), points=1), UsageError, "points is 1"),
        (lambda: da.barrier(A, B, data=(X[:, :3], Y)), DeepalignError, "the network does not run on"),
        (lambda: da.barrier(A, B, data=(X, Y + 9)), DeepalignError, "label"),
        (lambda: da.barrier(A, B, data=3), UsageError, "'data' gives int, not data"),
        (lambda: da.barrier(A, B, data={}), UsageError, "without names of splits"),
        (lambda: da.barrier(A, B, data=(X, Y), model=net), UsageError, "function is not a model"),
        (lambda: da.barrier(A, B, data=(X, Y), model=nets.mlp()), MismatchError, "model does not fit"),
        (lambda: da.barrier(A, B, data=(X, Y), splits="test"), UsageError, "no split 'test'"),
        (lambda: da.barrier(A, B, data=(X, Y), loss="hinge"), UsageError, "no loss 'hinge'"),
        (lambda: da.verify(A, B, data=X), UsageError, "no option 'data'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_sentence(
    call: Callable[[], object], kind: type[DeepalignError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


_WRONG = """
import torch, deepalign_cli as da
for call in (
    lambda: da.open(3), lambda: da.align(None, None), lambda: da.merge(3), lambda: da.merge([{}, {}]),
    lambda: da.merge({"a": torch.ones(2), "b": torch.ones(2)}),
):
    try:
        print(call())
    except da.DeepalignError as error:
        print(error.message, error.hint)
"""


@pytest.mark.slow
def test_wrong_types_are_told_in_a_sentence() -> None:
    """In a process where nothing else checks types."""
    told = subprocess.run([sys.executable, "-c", _WRONG], capture_output=True, text=True, check=True).stdout
    source = "give a path, a checkpoint, a state dict or an nn.Module."
    listed = "merge takes a list of two networks or more. da.merge([a, b])"
    assert told.splitlines() == [
        f"int is not a network. {source}", f"NoneType is not a network. {source}", listed,
        "A: it holds no tensors give a state dict: names and tensors", listed,
    ]  # fmt: skip


def test_a_module_that_cannot_be_copied_is_told() -> None:
    a = net(0)
    a.cache = a.fc1.weight * 2  # type: ignore[assignment]
    with pytest.raises(DeepalignError, match="'NamedMLP' raised RuntimeError"):
        da.barrier(a, net(1), data=examples(), method="none", points=3)


@pytest.mark.slow
def test_every_option_of_a_method_is_taken() -> None:
    a, b = net(0), net(1)
    for row in (one for one in METHODS.values() if one.name != "canonical"):  # which reads no such networks
        own = {p.name: 2 if p.name == "steps" else p.default for p in row.parameters}
        own |= dict(row.only.values())
        da.align(a, b, method=row.name, data=examples(), **own)
