"""Matching by canonical networks: one place for a whole orbit, the same function, no order of inputs."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.anchored import AnchorMatching
from deepalign_cli.errors import CheckpointError, MismatchError, UsageError
from deepalign_cli.network.saved_autoencoder import save_autoencoder
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.network.fresh_autoencoders import DESIGN, fresh, siren, symmetry


@pytest.fixture(scope="module")
def aligner(tmp_path_factory: pytest.TempPathFactory) -> AnchorMatching:
    path = tmp_path_factory.mktemp("autoencoder") / "fresh.safetensors"
    fresh(path)
    return AnchorMatching(str(path))


def wide(seed: int) -> dict[str, Tensor]:
    return {name: w.double() for name, w in siren(seed).items()}


def placed(aligner: AnchorMatching, s: Symmetry, w: dict[str, Tensor]) -> dict[str, Tensor]:
    return s.apply(aligner.carried(s, w, aligner.anchor(s, w)), w)


def test_an_orbit_has_one_canonical_network(aligner: AnchorMatching) -> None:
    s, w = symmetry(), wide(0)
    drawn = s.random(torch.Generator().manual_seed(3))
    g = Element(drawn.perm, drawn.scale)  # what the encoder is invariant to

    a, b = placed(aligner, s, w), placed(aligner, s, s.apply(g, w))

    assert max(float((a[n] - b[n]).abs().max()) for n in a) < 1e-12
    assert any(not torch.equal(a[n], w[n]) for n in a)
    x = torch.rand(20, 2, dtype=torch.float64)
    assert torch.allclose(DESIGN(a, x), DESIGN(w, x), atol=1e-12)


def test_networks_are_carried_onto_one_another_by_way_of_their_places(aligner: AnchorMatching) -> None:
    s, (a, b, c) = symmetry(), (wide(seed) for seed in range(3))
    rng = torch.Generator()

    onto_a = {n: aligner(s, a, one, rng=rng).element for n, one in (("b", b), ("c", c))}
    c_onto_b = aligner(s, b, c, rng=rng).element

    both = onto_a["b"] @ c_onto_b  # c to b to a is c to a: the order of inputs does not matter
    for group in s.sizes:
        assert torch.equal(both.perm[group], onto_a["c"].perm[group])
        assert torch.equal(both.scale[group], onto_a["c"].scale[group])


def test_other_networks_are_refused(aligner: AnchorMatching) -> None:
    spec = Spec.parse('[axes]\n"a.weight" = "k 3"\n"b.weight" = "2 k"')
    other = Symmetry(spec, {"a.weight": (4, 3), "b.weight": (2, 4)})

    with pytest.raises(MismatchError, match="this autoencoder is for"):
        aligner.anchor(other, {"a.weight": torch.zeros(4, 3), "b.weight": torch.zeros(2, 4)})


def test_what_is_no_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no network is called"):
        AnchorMatching("nothing-of-this-name")
    with pytest.raises(CheckpointError, match="is not an autoencoder"):
        AnchorMatching("universal-v1")


def test_a_network_that_it_cannot_place_is_refused(tmp_path: Path) -> None:
    model = fresh()
    with torch.no_grad():
        model.sizes.fill_(3e38)
    save_autoencoder(tmp_path / "far.safetensors", model)

    with pytest.raises(MismatchError, match="no finite weights"):
        AnchorMatching(str(tmp_path / "far.safetensors")).anchor(symmetry(), siren(0))
