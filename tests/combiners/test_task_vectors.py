from __future__ import annotations

import pytest
import torch

from deepalign_cli.combiners.combiner import Weighing
from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.combiners.task_vectors import added, from_base
from tests.combiners.builders import HALVES, drawn, made

ON_BASE = [name for name, row in COMBINERS.items() if row.base]
FACTORS = [name for name, row in COMBINERS.items() if row.weighing is Weighing.FACTORS]


@pytest.mark.parametrize("name", ON_BASE)
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_networks_that_are_the_base_give_the_base(name: str, dtype: torch.dtype) -> None:
    base = drawn(1, dtype)[0]
    density = {"density": 0.5} if "density" in {p.name for p in COMBINERS[name].parameters} else {}
    assert torch.equal(made(name, 2, **density)("w", [base, base, base]), base)


@pytest.mark.parametrize("name", ON_BASE)
def test_types_are_the_bases_and_what_is_no_number_comes_from_it(name: str) -> None:
    base, first, second = drawn(3)
    combine = made(name, 2)
    assert combine("w", [base.half(), first.bfloat16(), second.double()]).dtype == torch.float16
    assert combine("w", [base.double(), first, second]).dtype == torch.float64
    counts = [torch.arange(3), torch.ones(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)]
    assert torch.equal(combine("n", counts), torch.arange(3))


@pytest.mark.parametrize("name", ON_BASE)
def test_scalars_and_empty_tensors_go_through(name: str) -> None:
    for shape in ((), (0,), (1,), (1, 1), (2, 3, 1)):
        tensors = [torch.full(shape, value) for value in (1.0, 2.0, 4.0)]
        assert made(name, 2)("w", tensors).shape == shape


@pytest.mark.parametrize("name", FACTORS)
def test_statistics_are_averaged_by_the_weights_above_0(name: str) -> None:
    base, first, second = (torch.full((4,), v) for v in (9.0, 1.0, 3.0))
    running = [base, first, second]
    assert made(name, 2, weights=(0.25, 0.75))("bn.running_var", running).tolist() == [2.5] * 4
    assert made(name, 2, weights=(1.0, -2.0))("bn.running_var", running).tolist() == [1.0] * 4
    assert made(name, 2, weights=(-1.0, -2.0))("bn.running_var", running).tolist() == [9.0] * 4


def test_complex_numbers_are_averaged() -> None:
    base, first, second = (torch.full((2,), v, dtype=torch.complex64) for v in (0j, 2j, 4 + 0j))
    assert made("ties", 2)("w", [base, first, second]).tolist() == [2 + 1j] * 2


def test_task_vectors_are_differences_and_their_sum_is_added() -> None:
    base, first, second = (torch.tensor(v) for v in ([1.0, 1.0], [2.0, 0.0], [1.0, 5.0]))
    seen: list[torch.Tensor] = []
    from_base("w", [base, first, second], [1, 1], lambda t: (seen.append(t), t.sum(0))[1])
    assert seen[0].tolist() == [[1, -1], [0, 4]]
    assert added(seen[0], [1, 2], [10, 0.5]).tolist() == [10, -6]
