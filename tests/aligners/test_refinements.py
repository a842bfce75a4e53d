from __future__ import annotations

import pytest

from deepalign_cli.aligners.methods import REFINE
from deepalign_cli.aligners.refinements import REFINEMENTS
from deepalign_cli.parameters import load


@pytest.mark.parametrize("name", REFINEMENTS)
def test_every_row_can_be_loaded(name: str) -> None:
    assert REFINEMENTS[name].name == name
    assert REFINEMENTS[name].keeps
    assert callable(load(REFINEMENTS[name].loads))


def test_those_with_help_can_be_asked_for() -> None:
    asked = {name for name, row in REFINEMENTS.items() if row.help}
    assert set(REFINE.choices) == {"auto", *asked}
    assert {"none", "prior", "weights", "activations"} <= asked
    assert REFINE.need_data == {name for name in asked if REFINEMENTS[name].data}
    assert all(REFINEMENTS[name].help in REFINE.help for name in asked)
