"""Which of the autoencoders that come with deepalign reads a network, where none is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deepalign_cli.errors import MismatchError
from deepalign_cli.network import fitting_autoencoder as fitting
from deepalign_cli.network.fitting_autoencoder import fitting_autoencoder
from deepalign_cli.network.saved_autoencoder import save_autoencoder
from deepalign_cli.symmetry.spec import Basis
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.network.gmn_builders import DESIGNS, autoencoder, symmetry_of_design

SHIPPED = ("cnn-relu", "cnn-tanh", "siren")


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {}
    for name in SHIPPED:
        paths[name] = tmp_path / f"{name}.safetensors"
        save_autoencoder(paths[name], autoencoder(name))
    monkeypatch.setattr(fitting, "shipped_networks", lambda: paths)
    monkeypatch.setattr(fitting, "load_autoencoder", lambda name: autoencoder(name))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_activation_decides_between_two_of_one_architecture(name: str) -> None:
    assert fitting_autoencoder(symmetry_of_design(DESIGNS[name])) is autoencoder(name)


@pytest.mark.parametrize("name", ["cnn-relu", "cnn-tanh"])
def test_what_a_trace_allows_decides_too(name: str) -> None:
    whole = symmetry_of_design(DESIGNS[name])
    traced = Symmetry(replace(whole.spec, kinds={}, basis=Basis.TRACED), whole.shapes)
    assert fitting_autoencoder(traced) is autoencoder(name)


def test_an_activation_that_is_not_known_is_asked_for() -> None:
    whole = symmetry_of_design(DESIGNS["cnn-relu"])
    with pytest.raises(MismatchError, match=r"relu or leaky_relu \(.*\), or tanh or sin \(.*\)") as caught:
        fitting_autoencoder(Symmetry(replace(whole.spec, kinds={}), whole.shapes))
    assert "if it has, say so by --activation" in caught.value.hint  # it may have been said, of another one


def test_another_architecture_is_refused() -> None:
    with pytest.raises(MismatchError, match="no autoencoder that comes with deepalign reads these networks"):
        fitting_autoencoder(symmetry_of_design(DESIGNS["mlp-relu"]))
