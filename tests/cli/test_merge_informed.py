"""`merge` by combiners that look at data: Fisher information, Gram matrices of inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import deepalign_cli as da
from deepalign_cli.combiners.fisher import FisherMean, diagonal_fisher
from deepalign_cli.combiners.regmean import RegressionMean, input_grams
from deepalign_cli.errors import UsageError
from tests import nets
from tests.api.builders import examples, net
from tests.cli.subjects import data_set, refused
from tests.operations.making import deepalign, metadata, pair, planted, tensors


@pytest.mark.parametrize("name", ["fisher", "regmean"])
def test_the_networks_are_run_in_the_references_units(tmp_path: Path, name: str) -> None:
    a, b = pair(tmp_path)
    element = planted(b, tmp_path / "c.pt")  # the same as b, its units in disorder
    assert element.perm
    data = data_set(tmp_path)
    found = []
    for first, moving, how in ((a, b, "none"), (b, tmp_path / "c.pt", "weights")):
        use = ("merge", first, moving, "--combine", name, "--data", data, "--samples", "8", "-m", how)
        done = deepalign(*use, "--design", "activation=relu", "-o", tmp_path / f"{how}.safetensors")
        assert done.code == 0, done.err
        found.append(tensors(tmp_path / f"{how}.safetensors"))
    assert metadata(tmp_path / "none.safetensors")["deepalign.combine"] == name
    a_state, b_state = torch.load(a), torch.load(b)
    mean = (a_state["fc3.weight"] + b_state["fc3.weight"]) / 2  # not of fc1: both have one input
    assert not torch.allclose(found[0]["fc3.weight"], mean, atol=1e-3)
    # c carried back onto b: the average of a network with itself, whatever weighs its entries
    assert all(torch.allclose(w, b_state[n], atol=1e-4) for n, w in found[1].items())


@pytest.mark.parametrize("name", ["fisher", "regmean"])
def test_from_python_it_is_the_formula(name: str) -> None:
    modules, (x, _) = [net(seed, torch.float64) for seed in (0, 1)], examples()
    merged = da.merge(modules, combine=name, method="none", data=x, alpha=0.25, seed=3)
    states = [{n: w.detach() for n, w in one.state_dict().items()} for one in modules]

    def run(weights: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(nets.named_mlp().double().eval(), weights, batch)  # type: ignore[no-any-return]

    kind, prepare = (FisherMean, diagonal_fisher) if name == "fisher" else (RegressionMean, input_grams)
    known = [prepare(run, state, lambda: [x.double()], seed=3) for state in states]  # type: ignore[operator]
    combine = kind((0.75, 0.25), statistics=known)
    for n, w in merged.items():
        assert torch.allclose(w, combine(n, [state[n] for state in states]), atol=1e-9), n


def test_without_data_it_is_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    refused(deepalign("merge", a, b, "--combine", "fisher"), 2, "--combine fisher needs data")
    with pytest.raises(UsageError, match="--combine regmean needs data"):
        da.merge([net(0), net(1)], combine="regmean", method="none")
    done = deepalign("merge", a, b, "--off-diagonal", "0.5", "--data", data_set(tmp_path))
    refused(done, 2, "--combine linear makes no use of --off-diagonal")
