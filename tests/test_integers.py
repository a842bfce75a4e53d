from __future__ import annotations

from types import SimpleNamespace

import pytest

from deepalign_cli.integers import check_integers


def test_integers_from_their_least_on_pass() -> None:
    check_integers(SimpleNamespace(steps=10, seed=0, other="x"), {"steps": 10, "seed": 0})


@pytest.mark.parametrize("value", [9, True, 10.0, "10", None, 2**63])
def test_the_rest_is_named(value: object) -> None:
    with pytest.raises(ValueError, match="steps must be an integer of at least 10, not"):
        check_integers(SimpleNamespace(steps=value), {"steps": 10})
