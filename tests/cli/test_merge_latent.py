"""`merge --combine latent`: what an autoencoder writes for the mean of latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import deepalign_cli as da
from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.train.export import export_network
from tests import nets
from tests.network.fresh_autoencoders import DESIGN, fresh, siren, symmetry, written
from tests.operations.making import deepalign, generic, metadata, save


@pytest.fixture
def files(tmp_path: Path) -> Path:
    fresh(tmp_path / "ae.safetensors")
    for seed, name in enumerate("abc"):
        export_network(tmp_path / f"{name}.safetensors", DESIGN, siren(seed), None)
    return tmp_path


def line(files: Path, names: str = "ab", out: str = "o") -> list[object]:
    inputs = [files / f"{name}.safetensors" for name in names]
    how = ["--combine", "latent", "--autoencoder", files / "ae.safetensors", "--json"]
    return ["merge", *inputs, *how, "-o", files / f"{out}.safetensors"]


def decoded(*shares: float) -> dict[str, Tensor]:
    model, known = fresh(), symmetry()
    latents = torch.stack([share * model.latent(known, siren(seed)) for seed, share in enumerate(shares)])
    return {name: w.detach() for name, w in model.decode(latents.sum(0), known).items()}


def test_the_mean_of_latents_is_decoded(files: Path) -> None:
    done = deepalign(*line(files), "--alpha", "0.25")
    assert done.code == 0, done.err
    wanted, made = decoded(0.75, 0.25), load_file(files / "o.safetensors")
    assert all(torch.allclose(w, wanted[name], atol=1e-6) for name, w in made.items())
    assert (done.json["combine"], done.json["alpha"], done.json["method"]) == ("latent", 0.25, "canonical")
    facts = metadata(files / "o.safetensors")
    assert (facts["deepalign.combine"], facts["deepalign.autoencoder"]) == ("latent", "ae.safetensors")


def test_it_says_that_it_is_another_function_and_how_far_off_decoding_is(files: Path) -> None:
    told = deepalign(*line(files, "abc"), "--weights", "1,1,2").json
    assert told["autoencoder"] == "ae.safetensors"
    alone = [
        deepalign("canonicalize", files / f"{n}.safetensors", "--autoencoder", files / "ae.safetensors",
                  "-o", files / f"{n}-c.safetensors", "--json").json["networks"][0]
        for n in "abc"
    ]  # fmt: skip
    for name, one, known in zip("abc", told["reconstruction"], alone, strict=True):
        assert one["name"] == f"{name}.safetensors"
        assert one["error"] == pytest.approx(known["error"])
        assert one["weights_error"] == pytest.approx(known["weights_error"])
    assert (
        "ae.safetensors wrote the network: another function than any mean of the inputs' weights"
        in told["notes"]
    )
    assert sum("reconstruction error on" in note for note in told["notes"]) == 3


def test_a_share_of_one_is_what_is_decoded_of_that_network(files: Path) -> None:
    assert deepalign(*line(files), "--alpha", "0").code == 0
    by = ("--autoencoder", files / "ae.safetensors", "--decoded", "-o", files / "d.safetensors")
    assert deepalign("canonicalize", files / "a.safetensors", *by).code == 0
    one, other = (load_file(files / f"{name}.safetensors") for name in "od")
    assert all(torch.allclose(w, other[name], atol=1e-6) for name, w in one.items())


def test_all_of_an_orbit_and_any_order_give_one_network(files: Path) -> None:
    known = symmetry()
    element = replace(known.random(torch.Generator().manual_seed(5)), shift={})  # phases, latents do see
    moved = known.apply(element, siren(1))
    export_network(files / "m.safetensors", DESIGN, {n: w.contiguous() for n, w in moved.items()}, None)
    results = []
    for names in ("ab", "am", "ba"):
        assert deepalign(*line(files, names, names)).code == 0
        results.append(load_file(files / f"{names}.safetensors"))
    for other in results[1:]:
        assert all(torch.allclose(w, other[name], atol=1e-4) for name, w in results[0].items())


def test_the_shipped_one_is_found(tmp_path: Path) -> None:
    design = Siren()
    for seed, name in enumerate("ab"):
        weights = written("scalegmn-siren-mnist-v1", design, seed)
        export_network(tmp_path / f"{name}.safetensors", design, weights, None)
    inputs = [tmp_path / f"{name}.safetensors" for name in "ab"]
    save_file({"inputs": torch.rand(30, 2), "labels": torch.rand(30, 1)}, tmp_path / "data.safetensors")
    how = ["--combine", "latent", "--data", tmp_path / "data.safetensors", "-o", f"{tmp_path / 'o'}/"]
    done = deepalign("merge", *inputs, *how, "--json")
    assert done.code == 0, done.err
    assert done.json["autoencoder"] == "scalegmn-siren-mnist-v1"
    card = (tmp_path / "o" / "README.md").read_text()
    assert "mean latent of 2 networks, which is another function.\n" in card
    assert "**the merged network**" in card
    assert "barrier" not in card  # its ends are not the inputs
    assert "--combine latent" in card


def test_networks_of_other_sizes_are_refused_and_decoded_on_request(tmp_path: Path) -> None:
    """SIRENs that say nothing of w0, which they have inside their weights; canonical places stay exact."""
    inputs = []
    for seed in (0, 1):
        weights = written("scalegmn-siren-mnist-v1", Siren(), seed)
        weights |= {n: 30 * w for n, w in weights.items() if "layers.2" not in n}
        inputs.append(tmp_path / f"{seed}.safetensors")
        save_file(weights, inputs[-1])
    out = tmp_path / "o.safetensors"
    how = ("--activation", "sin", "-o", out)
    for line in (("merge", *inputs, "--combine", "latent"), ("canonicalize", inputs[0], "--decoded")):
        done = deepalign(*line, *how)
        assert (done.code, out.exists()) == (3, False)
        assert "is none of the kind that scalegmn-siren-mnist-v1 is for: its 'layers." in done.err
        assert " times the size that it has in the networks of its training" in done.err
        assert "Traceback" not in done.err
    exact = deepalign("canonicalize", inputs[0], *how)
    assert (exact.code, "is none of the kind" in exact.err) == (0, True)
    wanted = deepalign("canonicalize", inputs[0], "--decoded", "--max-error", "5", *how, "--force")
    assert (wanted.code, "is none of the kind" in wanted.err) == (0, True)


def test_where_nothing_runs_them_the_error_of_the_outputs_is_not_known(tmp_path: Path) -> None:
    inputs = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for seed, path in enumerate(inputs):
        save_file(written("scalegmn-siren-mnist-v1", Siren(), seed), path)
    done = deepalign(
        "merge", *inputs, "--combine", "latent", "--activation", "sin", "-o", tmp_path / "o.safetensors",
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert all(one["error"] is None for one in done.json["reconstruction"])
    assert any("the error of the outputs is not known" in note for note in done.json["notes"])


REFUSED = {
    "another method": (["-m", "weights"], 2, "goes with -m canonical alone, not weights"),
    "no alignment": (["-m", "none"], 2, "goes with -m canonical alone"),
    "a saved alignment": (["--alignment", "x.alignment"], 2, "exclude each other"),
    "weights of tensors": (["--weights-for", "net=0.5"], 2, "makes whole networks"),
    "no such autoencoder": (["--autoencoder", "nothing"], 2, "--autoencoder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_it(case: str, files: Path) -> None:
    words, code, why = REFUSED[case]
    done = deepalign(*line(files), *words)
    assert (done.code, why in done.err) == (code, True), done.err
    assert not (files / "o.safetensors").exists()


def test_networks_of_another_architecture_are_refused(tmp_path: Path) -> None:
    inputs = [save(generic(nets.named_mlp, seed), tmp_path / f"{seed}.pt") for seed in (0, 1)]
    done = deepalign(
        "merge", *inputs, "--combine", "latent", "--activation", "sin", "-o", tmp_path / "o.safetensors"
    )
    assert done.code == 3
    assert "no autoencoder that comes with deepalign reads these networks" in done.err
    assert not (tmp_path / "o.safetensors").exists()


def test_adapters_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        factors = {f"base_model.model.x.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
        save_file(factors, tmp_path / name / "adapter_model.safetensors")
        (tmp_path / name / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 2}')
    done = deepalign(
        "merge", tmp_path / "a", tmp_path / "b", "--combine", "latent", "-o", f"{tmp_path / 'o'}/"
    )
    assert done.code == 2
    assert "adapters" in done.err


def test_from_python(files: Path) -> None:
    inputs = [files / "a.safetensors", files / "b.safetensors"]
    merged = da.merge(inputs, combine="latent", autoencoder=str(files / "ae.safetensors"))
    wanted = decoded(0.5, 0.5)
    assert all(torch.allclose(w, wanted[name], atol=1e-6) for name, w in merged.items())
    assert any("another function" in note for note in merged.notes)
    with pytest.raises(UsageError, match="goes with method='canonical' alone"):
        da.merge(inputs, combine="latent", method="weights")
