"""`canonicalize` on the command line: exact by default, decoded on request, with codes and no halves."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deepalign_cli.train.export import export_network
from tests.network.fresh_autoencoders import DESIGN, fresh, siren
from tests.operations.making import deepalign


@pytest.fixture
def files(tmp_path: Path) -> Path:
    fresh(tmp_path / "ae.safetensors")
    for seed, name in enumerate("abc"):
        export_network(tmp_path / f"{name}.safetensors", DESIGN, siren(seed), None)
    return tmp_path


def by(files: Path) -> tuple[object, ...]:
    return "--autoencoder", files / "ae.safetensors"


def test_a_network_keeps_its_function_and_says_how_it_was_made(files: Path) -> None:
    out = files / "out.safetensors"

    done = deepalign("canonicalize", files / "a.safetensors", *by(files), "-o", out, "--json")

    assert done.code == 0, done.err
    (one,) = done.json["networks"]
    assert one["moved"] > 0
    assert one["error"] > 0
    before, after = ({n: w.double() for n, w in load_file(p).items()} for p in (files / "a.safetensors", out))
    x = torch.rand(20, 2, dtype=torch.float64)
    assert torch.allclose(DESIGN(before, x), DESIGN(after, x), atol=1e-5)
    assert deepalign("inspect", out, "--json").json["tensors"]


def test_several_go_into_a_folder_and_are_matched_as_pairs_are(files: Path) -> None:
    inputs, folder = [files / f"{n}.safetensors" for n in "abc"], files / "canon"

    done = deepalign("canonicalize", *inputs, *by(files), "-o", folder)

    assert done.code == 0, done.err
    assert sorted(p.name for p in folder.iterdir()) == [f"{n}.canonical.safetensors" for n in "abc"]
    assert done.out.count("reconstruction error") == 3
    matched = files / "o.safetensors"
    assert deepalign("align", *inputs[:2], "-m", "canonical", *by(files), "-o", matched).code == 0
    a, a_there, b, b_there = (
        load_file(p)
        for p in (inputs[0], folder / "a.canonical.safetensors", matched, folder / "b.canonical.safetensors")
    )
    apart, apart_there = (
        sum(float((x[n] - y[n]).square().sum()) for n in x) for x, y in ((a, b), (a_there, b_there))
    )
    assert apart == pytest.approx(apart_there, rel=1e-4)


def test_what_is_decoded_is_another_network_within_a_limit(files: Path) -> None:
    out = files / "out.safetensors"
    line = ("canonicalize", files / "a.safetensors", *by(files), "--decoded", "-o", out)

    refused = deepalign(*line, "--max-error", "1e-6")
    assert refused.code == 4
    assert not out.exists()
    assert "did not write" in refused.out
    done = deepalign(*line, "--json")
    assert done.code == 0, done.err
    assert done.json["decoded"]
    a, b = load_file(files / "a.safetensors"), load_file(out)
    sizes = [[w[n].abs().sort().values for n in a if a[n].ndim == 1] for w in (a, b)]
    assert any(not torch.equal(*pair) for pair in zip(*sizes, strict=True))


def test_bad_input_is_one_sentence(files: Path) -> None:
    a, ae = files / "a.safetensors", files / "ae.safetensors"
    out = files / "out.safetensors"
    for words, code, sentence in [
        (("--autoencoder", "nothing"), 2, "no network is called 'nothing'"),
        (("--autoencoder", a), 3, "is not an autoencoder"),
        (("--autoencoder", ae, "-o", a), 2, "input"),
        (("--autoencoder", ae, "--max-error", "-1"), 2, "max-error"),
    ]:
        done = deepalign("canonicalize", a, *words, *([] if "-o" in words else ["-o", out]))
        assert (done.code, sentence in done.err, out.exists()) == (code, True, False), done.err
