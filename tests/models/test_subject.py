from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor

from deepalign_cli.models import subject
from deepalign_cli.models.designs import Design
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.subject import RunModule, subject_of
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.tracing.pipeline import trace
from tests.models.designs.builders import weights_of


def test_the_docstrings_examples_hold() -> None:
    found = doctest.testmod(subject)
    assert found.attempted == 1
    assert not found.failed


def test_parameters_stand_where_their_names_say() -> None:
    design = MLP((5, 4, 3))
    one = subject_of(design, weights_of(design))
    assert dict(one.names) == {name: name for name in weights_of(design)}
    assert one.module.get_parameter("fc1.weight").shape == (4, 5)
    assert set(trace(one.module, one.example).spec.groups()) == {"fc1"}


@pytest.mark.parametrize(
    "names",
    [
        ["half.weight", "half_.weight", "train", "run.names", "_parameters.w"],
        ["a", "a.b", "a_", "a.b.c"],
        ["", "a..b", ".x", "0.1", "with space", "training"],
    ],
)
def test_any_names_will_do(names: list[str]) -> None:
    weights = {name: torch.tensor([float(i)]) for i, name in enumerate(names)}

    def run(w: Weights, x: Tensor) -> Tensor:
        return x + torch.stack([w[name] * 10**i for i, name in enumerate(names)]).sum()

    module = RunModule(run, dict.fromkeys(names, (1,)))
    given = {module.names[name]: w for name, w in weights.items()}
    assert len(given) == len(names)
    x = torch.zeros(2)
    assert torch.equal(torch.func.functional_call(module, given, (x,)), run(weights, x))


@pytest.mark.parametrize(
    ("design", "shape", "dtype"),
    [
        (MLP((5, 3)), (8, 5), torch.float32),
        (Decoder(8, 2, 8, context=6, tokens=7), (8, 6), torch.int64),
    ],
)
def test_examples_are_what_a_design_reads(design: Design, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    (x,) = subject_of(design, weights_of(design)).example.args
    assert x.shape == shape
    assert x.dtype == dtype
    if dtype == torch.int64:
        assert 0 <= int(x.min()) < int(x.max()) < 7
