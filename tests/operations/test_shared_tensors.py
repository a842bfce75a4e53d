"""Checkpoints of one architecture that do not hold quite the same tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import deepalign_cli as da
from deepalign_cli.errors import MismatchError
from deepalign_cli.symmetry.spec import Spec
from tests.operations.making import deepalign

State = dict[str, Tensor]


def norms(classes: int = 5) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes),
    )  # fmt: skip


def state(classes: int = 5, prefix: str = "", *, counts: bool = True) -> State:
    tensors = norms(classes).state_dict()
    return {prefix + n: w for n, w in tensors.items() if counts or not n.endswith("num_batches_tracked")}


def same_function(a: State, b: State, classes: int = 5) -> bool:
    x, results = torch.randn(4, 3, 9, 9, dtype=torch.float64), []
    for weights in (a, b):
        net = norms(classes).double().eval()
        net.load_state_dict({n: w.double() for n, w in weights.items()}, strict=False)
        results.append(net(x))
    return torch.allclose(*results, atol=1e-12)


def saved(tmp_path: Path, *states: State) -> list[Path]:
    paths = [tmp_path / f"{name}.pt" for name, _ in zip("abc", states, strict=False)]
    for path, tensors in zip(paths, states, strict=True):
        torch.save(tensors, path)
    return paths


@pytest.mark.parametrize("counts", [(True, False), (False, True)])
def test_counters_in_one_only(tmp_path: Path, counts: tuple[bool, bool]) -> None:
    a, b = (state(counts=has) for has in counts)
    paths, out = saved(tmp_path, a, b), tmp_path / "o.safetensors"
    done = deepalign("align", *paths, "-m", "weights", "-o", out)
    assert done.code == 0, done.err
    assert "num_batches_tracked" in done.err
    moved = load_file(out)
    assert moved.keys() == b.keys()
    assert same_function(moved, b)
    done = deepalign("merge", *paths, "-m", "weights", "-o", out, "--force")
    assert done.code == 0, done.err
    assert load_file(out).keys() == a.keys()
    assert deepalign("verify", *paths, "--json").code == 1
    assert da.merge([a, b], method="weights").keys() == a.keys()


@pytest.mark.parametrize("prefixes", [("net.", ""), ("", "net."), ("backbone.", "net.body.")])
def test_a_prefix_in_one_only(tmp_path: Path, prefixes: tuple[str, str]) -> None:
    a, b = (state(prefix=prefix) for prefix in prefixes)
    paths, out = saved(tmp_path, a, b), tmp_path / "o.safetensors"
    done = deepalign("align", *paths, "-m", "weights", "-o", out)
    assert done.code == 0, done.err
    assert "names begin with" in done.err
    moved = load_file(out)
    assert moved.keys() == b.keys()
    plain = [{n.removeprefix(prefixes[1]): w for n, w in weights.items()} for weights in (moved, b)]
    assert same_function(*plain)
    merged = da.merge([a, b], method="weights")
    assert merged.keys() == a.keys()


def test_heads_of_other_classes(tmp_path: Path) -> None:
    a, b = state(5), state(7)
    paths, out = saved(tmp_path, a, b), tmp_path / "o.safetensors"
    refused = deepalign("align", *paths, "-m", "weights")
    assert refused.code == 3
    assert "--partial" in refused.err
    done = deepalign("align", *paths, "-m", "weights", "--partial", "-o", out)
    assert done.code == 0, done.err
    assert "keeps tensors of its own: 8.weight, 8.bias" in done.err
    moved = load_file(out)
    assert same_function(moved, b, 7)
    assert not moved["8.weight"].equal(b["8.weight"])  # its columns moved with the units that it reads
    done = deepalign("merge", *paths, "-m", "weights", "--partial", "-o", out, "--force")
    assert done.code == 0, done.err
    merged = load_file(out)
    for name, w in merged.items():
        wanted = (
            a[name] if name.startswith("8.") or not w.is_floating_point() else (a[name] + moved[name]) / 2
        )
        assert torch.allclose(w, wanted, atol=1e-6), name


def test_partly_in_python() -> None:
    a, b = state(5), state(7)
    alignment = da.align(a, b, method="weights", partial=True)
    assert same_function(dict(alignment.apply(b)), b, 7)
    merged = da.merge([a, b], method="weights", partial=True)
    assert merged["8.weight"].equal(a["8.weight"])
    assert merged["8.weight"].data_ptr() != a["8.weight"].data_ptr()
    assert any("8.weight" in note for note in merged.notes)
    norms(5).load_state_dict(merged)


def vocabulary(words: int) -> State:
    return {
        "embed.weight": torch.randn(words, 6),
        "fc.weight": torch.randn(8, 6),
        "out.weight": torch.randn(3, 8),
    }


SPEC = '[axes]\n"embed.weight" = "100 d"\n"fc.weight" = "k d"\n"out.weight" = "3 k"\n'


def test_other_vocabularies(tmp_path: Path) -> None:
    a, b = vocabulary(100), vocabulary(102)
    paths, out = saved(tmp_path, a, b), tmp_path / "o.safetensors"
    (tmp_path / "s.toml").write_text(SPEC)
    options = ("-m", "weights", "--spec", tmp_path / "s.toml", "--partial", "-o", out)
    assert deepalign("align", *paths, *options).code == 0
    moved = load_file(out)
    assert torch.allclose(moved["embed.weight"] @ moved["fc.weight"].T @ moved["out.weight"].T,
                          b["embed.weight"] @ b["fc.weight"].T @ b["out.weight"].T, atol=1e-5)  # fmt: skip
    done = deepalign("merge", *paths, *options, "--force")
    assert done.code == 0, done.err
    assert load_file(out)["embed.weight"].equal(a["embed.weight"])
    assert deepalign("inspect", out).code == 0  # the spec in the metadata fits


def test_other_widths_stay_as_they_are() -> None:
    a, b = vocabulary(100), vocabulary(100)
    b["fc.weight"], b["out.weight"] = torch.randn(9, 6), torch.randn(3, 9)
    moved = da.align(a, b, method="weights", spec=Spec.parse(SPEC), partial=True).apply(b)
    before, after = (w["embed.weight"] @ w["fc.weight"].T @ w["out.weight"].T for w in (b, moved))
    assert torch.allclose(before, after, atol=1e-5)


def test_what_only_the_moving_one_has_may_have_to_move(tmp_path: Path) -> None:
    a, b = state(), state()
    b["auxiliary.weight"] = torch.randn(2, 6)
    paths = saved(tmp_path, a, b)
    done = deepalign("align", *paths, "-m", "weights", "--partial", "-o", tmp_path / "o.safetensors")
    assert done.code == 3
    assert "auxiliary.weight" in done.err
    assert da.merge([a, b], method="weights", partial=True).keys() == a.keys()


def test_partly_goes_with_neither_data_nor_saved_alignments(tmp_path: Path) -> None:
    paths = saved(tmp_path, state(5), state(7))
    done = deepalign(
        "align", *paths, "--partial", "--save-alignment", tmp_path / "x.alignment", "-m", "weights"
    )
    assert done.code == 2
    with pytest.raises(MismatchError):
        da.align(state(5), {"x": torch.ones(2)}, partial=True)


def test_an_averaged_model_beside_a_plain_one() -> None:
    """torch's AveragedModel puts n_averaged beside module.*"""
    averaged = dict(torch.optim.swa_utils.AveragedModel(norms()).state_dict())
    assert {"n_averaged", "module.0.weight"} <= averaged.keys()
    plain = state()
    alignment = da.align(plain, averaged, method="weights")
    moved = {name.removeprefix("module."): w for name, w in dict(alignment.apply(averaged)).items()}
    assert moved.pop("n_averaged").equal(averaged["n_averaged"])
    assert same_function(
        moved, {n.removeprefix("module."): w for n, w in averaged.items() if n != "n_averaged"}
    )
    assert da.merge([averaged, plain], method="weights").keys() == averaged.keys()


def test_counts_of_metrics_touch_no_units() -> None:
    counts = {"metric.confusion": torch.zeros(5, 5, dtype=torch.int64), "metric.seen": torch.tensor(7)}
    a, b = ({**state(), **counts} for _ in range(2))
    alignment = da.align(a, b, method="weights")
    assert alignment.moved
    assert da.merge([a, b], method="weights")["metric.seen"].item() == 7
