"""Random programs: no element of a derived spec may change what a program computes, before any check."""

from __future__ import annotations

import pytest
import torch

from deepalign_cli.errors import SpecError
from deepalign_cli.tracing.pipeline import label
from deepalign_cli.tracing.rules.rulebook import load_rules
from deepalign_cli.tracing.value import Value
from tests.tracing.programs import Forest
from tests.tracing.quick import Quick, faults

_TOGETHER = 20
pytestmark = pytest.mark.filterwarnings("ignore:std")


def wrong_groups(seeds: range) -> dict[str, str]:
    """Groups that change a program of these seeds; their names begin with the program's."""
    forest, x = Forest(seeds), torch.randn(3, 6)
    try:
        return faults(label(Quick(forest, x)).spec, forest, x)[0]
    except SpecError:  # one of them overflows with other weights, or stands next to a step
        middle = seeds.start + len(seeds) // 2
        if len(seeds) == 1:
            return {}
        return wrong_groups(range(seeds.start, middle)) | wrong_groups(range(middle, seeds.stop))


@pytest.mark.parametrize("start", range(0, 100, _TOGETHER))
def test_no_element_changes_a_random_program(start: int, double: None) -> None:
    assert not wrong_groups(range(start, start + _TOGETHER))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(200, 360, _TOGETHER))
def test_no_element_changes_many_random_programs(start: int, double: None) -> None:
    assert not wrong_groups(range(start, start + _TOGETHER))


def test_a_wrong_rule_is_found(double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(load_rules(), "sigmoid", lambda labels, op, x: Value(list(x.lazy)))  # passes factors
    assert any(wrong_groups(range(start, start + 5)) for start in range(0, 40, 5))


def test_programs_are_the_same_each_time(double: None) -> None:
    assert list(Forest(range(5)).plans()) == list(Forest(range(5)).plans())
