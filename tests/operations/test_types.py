"""Every type of number through every operation: nothing crashes, and the function stays what it was."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import deepalign_cli as da
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.errors import MismatchError, NonFiniteError
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.unrounded import unrounded
from tests import nets
from tests.operations.making import network

FEW = ("bfloat16", "float8_e4m3fn")
MORE = ("float64", "float16", "float8_e5m2fnuz")
FLOATS = [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
OTHERS = "int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool".split()  # noqa: SIM905
DATA = (torch.randn(64, 12, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 5)
SQUARE = torch.rand(50, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
METHODS = ("weights", "deepalign", "none", "activations", "dual", "sinkhorn")
PAIRS = [*((d, m) for d in FEW for m in METHODS), *((d, m) for d in MORE for m in ("weights", "activations"))]


def states(dtype: str) -> list[dict[str, Tensor]]:
    kind = getattr(torch, dtype)
    return [{n: w.to(kind) for n, w in network("named_mlp", s).state_dict().items()} for s in (0, 1)]


def rescaled(dtype: str) -> list[dict[str, Tensor]]:
    """The second one's units have other scales."""
    a, b = states("float32")
    factors = torch.linspace(1.3, 5.3, len(b["fc1.bias"]))
    b["fc1.weight"], b["fc1.bias"] = b["fc1.weight"] * factors[:, None], b["fc1.bias"] * factors
    b["fc2.weight"] = b["fc2.weight"] / factors
    return [{name: w.to(getattr(torch, dtype)) for name, w in state.items()} for state in (a, b)]


def net() -> nn.Module:
    return nets.ALL["named_mlp"]()[0]


def outputs(state: Mapping[str, Tensor]) -> Tensor:
    """In float64, with the weights exactly as they are."""
    model = net().double()
    model.load_state_dict({name: w.double() for name, w in state.items()})
    result: Tensor = model(DATA[0].double())
    return result


def aligned(
    method: str, a: Mapping[str, Tensor], b: Mapping[str, Tensor], activation: str | None
) -> Alignment:
    uses_data = method in ("activations", "dual", "sinkhorn")
    more = {"data": DATA, "model": net()} if uses_data else {}
    options = {"steps": 2} if method == "sinkhorn" else {}
    return da.align(a, b, method=method, activation=activation, **more, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "method"), PAIRS)
def test_every_method(dtype: str, method: str) -> None:
    a, b = states(dtype)
    moved = aligned(method, a, b, None).apply(b)
    assert torch.allclose(outputs(moved), outputs(b), atol=1e-12)
    assert all(moved[name].dtype == w.dtype for name, w in b.items())


MIXED: dict[str, dict[str, int]] = {"deepalign": {}, "sinkhorn": {"steps": 2}}


@pytest.mark.parametrize("method", MIXED)
@pytest.mark.parametrize("double", [("",), ("fc3",)])
def test_two_networks_of_which_one_is_in_float64(method: str, double: tuple[str, ...]) -> None:
    """Wholly, or in one layer."""
    a, b = states("float32")
    a = {name: w.double() if name.startswith(double) else w for name, w in a.items()}
    for reference, moving in ((a, b), (b, a)):
        more = {"data": DATA, "model": net()} if method == "sinkhorn" else {}
        moved = da.align(reference, moving, method=method, **more, **MIXED[method]).apply(moving)
        assert torch.allclose(outputs(moved), outputs(moving), atol=1e-12)
        assert all(moved[name].dtype == w.dtype for name, w in moving.items())


def test_the_mean_of_networks_of_which_one_is_in_float64() -> None:
    a, b = states("float32")
    c = {name: w.double() for name, w in states("bfloat16")[1].items()}
    merged = da.merge([a, b, c], onto="mean")
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in merged.values())


SINES = """basis = "traced and checked"
[kinds]
h = "sign"
k = "sign"
[phases]
"layers.0.bias" = { half_turn = 0.10471975511965977, flips = ["layers.1.weight"] }
"layers.1.bias" = { half_turn = 0.10471975511965977, flips = ["layers.2.weight"] }
[axes]
"layers.0.weight" = "~h 2"
"layers.0.bias" = "~h"
"layers.1.weight" = "~k ~h"
"layers.1.bias" = "~k"
"layers.2.weight" = "1 ~k"
"""


def test_phases_of_narrow_sines_rest() -> None:
    """Half a turn of sin(30 z) is no number of bfloat16."""
    siren = Siren((2, 12, 10, 1))
    a, b = (siren.init(torch.Generator().manual_seed(seed)) for seed in (0, 1))
    b = {name: w.bfloat16() for name, w in b.items()}
    alignment = da.align(a, b, spec=Spec.parse(SINES), method="weights")
    symmetry = alignment.symmetry
    drawn = unrounded(symmetry, symmetry.random(torch.Generator().manual_seed(0)), b)

    for moved in (alignment.apply(b), {name: symmetry.act(drawn, name, w) for name, w in b.items()}):
        before, after = (siren({n: w.double() for n, w in s.items()}, SQUARE.double()) for s in (b, moved))
        assert torch.allclose(before, after, atol=1e-12)
        assert not moved["layers.1.bias"].equal(b["layers.1.bias"])


@pytest.mark.parametrize("dtype", [*FEW, *FLOATS[3:]])
@pytest.mark.parametrize("method", ["weights", "deepalign"])
def test_scales_keep_narrow_types_exact(dtype: str, method: str) -> None:
    a, b = rescaled(dtype)
    alignment = aligned(method, a, b, "relu")
    powers = torch.cat([*alignment.element.scale.values()]).log2()
    assert powers.equal(powers.round())
    assert bool(powers.any())
    assert torch.allclose(outputs(alignment.apply(b)), outputs(b), atol=1e-12)


def test_scales_of_wide_types_stay_free() -> None:
    a, b = rescaled("float32")
    powers = torch.cat([*aligned("weights", a, b, "relu").element.scale.values()]).log2()
    assert not powers.equal(powers.round())


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_other_commands(dtype: str) -> None:
    a, b = states(dtype)
    planted = aligned("weights", a, b, None).apply(b)
    assert da.verify(b, dict(planted)).same
    assert not da.verify(a, b, tolerance=1e-3).same
    curve = da.barrier(a, b, method="weights", data=DATA, model=net(), points=3)
    assert curve.to_dict()
    for combine, more in (("linear", {}), ("slerp", {}), ("ties", {"base": a})):
        merged = da.merge([a, b], combine=combine, method="weights", **more)
        assert {w.dtype for w in merged.values()} == {w.dtype for w in a.values()}
        assert torch.isfinite(outputs(merged)).all()


@pytest.mark.parametrize("dtype", OTHERS)
def test_integers_move_with_their_units(dtype: str) -> None:
    kind = getattr(torch, dtype)
    spec = Spec.parse('[axes]\n"w" = "k 3"\n"v" = "2 k"\n"mask" = "k 3"\n')
    b = {"w": torch.randn(4, 3), "v": torch.randn(2, 4), "mask": (torch.rand(4, 3) * 9).to(kind)}
    g = Element({"k": torch.tensor([2, 0, 3, 1])})
    symmetry = Symmetry(spec, {name: tuple(w.shape) for name, w in b.items()})
    a = {name: symmetry.act(g, name, w) for name, w in b.items()}
    alignment = da.align(a, b, method="weights", spec=spec)
    assert all(alignment.apply(b)[name].equal(w) for name, w in a.items())
    assert da.verify(a, b, spec=spec).same


COMPLEX = Spec.parse('[axes]\n"w" = "k 3"\n"v" = "2 k"\n"filter" = "k 5"\n')


def with_complex() -> dict[str, Tensor]:
    filters = torch.randn(4, 5, dtype=torch.complex64)
    return {"w": torch.randn(4, 3), "v": torch.randn(2, 4), "filter": filters}


def test_complex_tensors_are_compared_and_averaged_whole() -> None:
    a, b = with_complex(), with_complex()
    assert da.verify(a, {**a, "filter": a["filter"].clone()}, spec=COMPLEX).same
    assert not da.verify(a, {**a, "filter": a["filter"].conj().resolve_conj()}, spec=COMPLEX).same
    for combine, more in (("linear", {}), ("slerp", {}), ("ties", {"base": a})):
        merged = da.merge([a, b], combine=combine, method="none", spec=COMPLEX, **more)
        wanted = (a["filter"] + b["filter"]) / 2
        assert merged["filter"].allclose(wanted, atol=1e-6), combine
    b["filter"][1, 1] = complex(0, torch.nan)
    with pytest.raises(NonFiniteError, match="filter"):
        da.merge([a, b], method="weights", spec=COMPLEX)


def test_a_complex_tensor_beside_an_integer_one() -> None:
    a, b = with_complex(), with_complex()
    b["filter"] = torch.zeros(4, 5, dtype=torch.int64)
    with pytest.raises(MismatchError, match="C64"):
        da.align(a, b, spec=COMPLEX)


def test_what_an_8_bit_type_cannot_hold_is_refused() -> None:
    """float8_e4m3fn would clamp at 448."""
    a = {"w": torch.full((4, 3), 300.0).to(torch.float8_e4m3fn), "v": torch.ones(2, 4)}
    b = {"w": torch.full((4, 3), 900.0), "v": torch.ones(2, 4)}
    spec = Spec.parse('[axes]\n"w" = "k 3"\n"v" = "2 k"\n')
    with pytest.raises(MismatchError, match="'w' has numbers beyond 448"):
        da.merge([a, b], method="none", spec=spec)


def test_a_unit_at_the_edge_of_its_type_keeps_its_scale() -> None:
    spec = Spec.parse('[axes]\n"w" = "+k 2"\n"v" = "2 -k"\n[kinds]\nk = "scale"\n')
    b = {"w": torch.tensor([[1.0, 2.0], [3e4, 1.0], [1e-7, 1.0]]).half(), "v": torch.ones(2, 3).half()}
    symmetry = Symmetry(spec, {"w": (3, 2), "v": (2, 3)})
    g = Element({"k": torch.tensor([0, 1, 2])}, {"k": torch.tensor([3.1, 4.2, 0.24]).double()})
    exact = unrounded(symmetry, g, b)
    assert exact.scale["k"].tolist() == [4.0, 1.0, 1.0]  # 3e4 would overflow, 1e-7 lose its digits
    for name, w in b.items():
        moved = symmetry.act(exact, name, w)
        assert symmetry.act(exact.inverse(), name, moved).equal(w)
