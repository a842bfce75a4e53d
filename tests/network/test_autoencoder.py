from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from deepalign_cli.errors import CheckpointError, MismatchError
from deepalign_cli.network.autoencoder import Autoencoder
from deepalign_cli.network.saved import load_network
from deepalign_cli.network.saved_autoencoder import load_autoencoder, read_autoencoder, save_autoencoder
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.network.gmn_builders import (
    DESIGNS,
    autoencoder,
    networks,
    spec_of_design,
    stack_of,
    symmetry_of_design,
)
from tests.symmetry.builders import seeded

SIREN = DESIGNS["siren"]
NAMES = {n: n.replace("layers.", "net.") + "_" for n in SIREN.init(seeded(0))}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "ae.safetensors"
    save_autoencoder(path, autoencoder(), {"psnr": "12.5"})
    return path


def test_every_network_of_an_orbit_has_one_anchor() -> None:
    model, symmetry, (net, other) = autoencoder(), symmetry_of_design(SIREN), networks(SIREN, 2)
    anchor = model.anchor(symmetry, net)
    for seed in range(3):
        moved = symmetry.apply(symmetry.random(seeded(seed)), net)
        found = model.anchor(symmetry, moved)
        assert all(torch.allclose(found[n], w, rtol=0, atol=1e-9) for n, w in anchor.items())
    assert anchor.keys() == net.keys()
    assert {n: w.shape for n, w in anchor.items()} == {n: w.shape for n, w in net.items()}
    assert not torch.allclose(model.anchor(symmetry, other)["layers.1.weight"], anchor["layers.1.weight"])


def test_other_names_are_read_and_written() -> None:
    model, (net,) = autoencoder(), networks(SIREN, 1)
    symmetry = symmetry_of_design(SIREN, NAMES)
    named = {NAMES[n]: w for n, w in net.items()}
    anchor = model.anchor(symmetry, named)
    expected = model.anchor(symmetry_of_design(SIREN), net)
    assert all(torch.equal(anchor[NAMES[n]], w) for n, w in expected.items())


def test_stacks_are_encoded_and_decoded_at_once() -> None:
    model, symmetry, nets = autoencoder(), symmetry_of_design(SIREN), networks(SIREN)
    latents = torch.stack([model.latent(symmetry, net) for net in nets])
    assert torch.allclose(model.latents(stack_of(nets)), latents, rtol=0, atol=1e-12)
    both = model.decode(latents)
    assert both["layers.1.weight"].shape == (3, 5, 6)
    assert torch.allclose(both["layers.2.bias"][1], model.decode(latents[1])["layers.2.bias"])


def test_the_decoder_begins_near_a_network() -> None:
    model, (start, *nets) = autoencoder(), networks(SIREN, 9)
    fresh = type(model)(model.blueprint, model.encoder, model.config).double()
    fresh.begin(stack_of(nets), start)
    first = fresh.requires_grad_(False).decode(torch.zeros(6).double())
    assert all(float((first[n] - w).abs().max()) < 0.5 for n, w in start.items())


def test_another_architecture_is_refused_in_words() -> None:
    for name, words in (("mlp-tanh", "4-5-6-3"), ("cnn-tanh", "3x3 convolutions")):
        with pytest.raises(
            MismatchError, match=r"is for networks 2-6-5-1 \(a sign for each unit\)"
        ) as caught:
            autoencoder().check_fits(symmetry_of_design(DESIGNS[name]))
        assert words in caught.value.message


def test_signs_that_are_not_known_are_asked_for() -> None:
    plain = replace(spec_of_design(SIREN), kinds={})
    symmetry = symmetry_of_design(SIREN)
    with pytest.raises(MismatchError, match="neither sign nor scale") as caught:
        autoencoder().check_fits(Symmetry(plain, symmetry.shapes))
    assert "--activation sin" in caught.value.hint


def test_a_traced_spec_knows_what_it_allows() -> None:
    traced = replace(spec_of_design(SIREN), kinds={}, basis=Basis.TRACED)
    autoencoder().check_fits(Symmetry(traced, symmetry_of_design(SIREN).shapes))


def test_a_missing_tensor_is_named() -> None:
    (net,) = networks(SIREN, 1)
    del net["layers.2.bias"]
    with pytest.raises(MismatchError, match=r"no 'layers\.2\.bias'"):
        autoencoder().latent(symmetry_of_design(SIREN), net)


def test_what_is_read_back_is_what_was_written(saved: Path) -> None:
    found, before = load_autoencoder(str(saved)), autoencoder()
    assert (found.name, found.facts) == ("ae.safetensors", {"psnr": "12.5"})
    (net,) = networks(SIREN, 1)
    symmetry = symmetry_of_design(SIREN)
    gap = found.latent(symmetry, net) - before.latent(symmetry, net).float()
    assert float(gap.abs().max()) < 1e-4


def test_an_autoencoder_is_no_aligner(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="is an autoencoder"):
        load_network(saved)


def _rewrite(path: Path, change: Callable[[dict[str, str]], None]) -> None:
    with safe_open(path, "pt") as file:
        tensors, metadata = {n: file.get_tensor(n) for n in file.keys()}, dict(file.metadata())  # noqa: SIM118
    change(metadata)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deepalign.config", '{"encoder": "scalegmn", "channels": 100000, "layers": 2, "latent": 6}'),
        ("deepalign.config", '{"encoder": "none"}'),
        ("deepalign.config", "[]"),
        ("deepalign.config", '{"encoder": "scalegmn", "channels": 8, "layers": 2, "latent": 7}'),
        ("deepalign.decoder", "[1000000000]"),
        ("deepalign.decoder", "{}"),
        ("deepalign.shapes", '{"layers.0.weight": [1000000000, 2]}'),
        ("deepalign.shapes", '{"layers.0.weight": [-1]}'),
        ("deepalign.architecture", "[axes"),
    ],
)
def test_a_broken_file_is_refused_in_a_sentence(saved: Path, key: str, value: str) -> None:
    _rewrite(saved, lambda metadata: metadata.update({key: value}))
    with pytest.raises(CheckpointError, match="not a whole autoencoder"):
        read_autoencoder(saved)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="is not an autoencoder that this version reads"):
        load_autoencoder(str(tmp_path / "a.safetensors"))


def test_its_modules_keep_no_gradients(saved: Path) -> None:
    model: Autoencoder = load_autoencoder(str(saved))
    assert not any(p.requires_grad for p in model.parameters())


def test_the_tensor_of_the_oddest_size_is_named() -> None:
    model, known = autoencoder("siren"), symmetry_of_design(SIREN)
    tensors = {n: torch.ones(w.shape) for n, w in SIREN.init(seeded(0)).items()}
    model.sizes.fill_(1.0)
    assert model.oddest(known, tensors)[1] == 1
    tensors["layers.0.weight"] *= 3
    assert model.oddest(known, tensors) == ("layers.0.weight", pytest.approx(3))
    tensors["layers.1.weight"] /= -5
    assert model.oddest(known, tensors) == ("layers.1.weight", pytest.approx(0.2))
    tensors["layers.1.weight"] *= 0
    tensors["layers.2.bias"] *= 1e9  # one number tells nothing
    assert model.oddest(known, tensors) == ("layers.1.weight", 0)
