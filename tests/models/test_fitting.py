from __future__ import annotations

import pytest

from deepalign_cli.errors import MismatchError
from deepalign_cli.models.fitting import check_fit
from deepalign_cli.symmetry.tensor_names import is_counter

OWN = {"a": (2, 3), "b": (2,), "n.num_batches_tracked": ()}


def test_what_fits() -> None:
    check_fit(OWN, dict(reversed(OWN.items())), "hint")
    check_fit(OWN, {"a": (2, 3), "b": (2,)}, "hint", is_counter)
    check_fit({"a": (2, 3), "b": (2,)}, OWN, "hint", is_counter)


def test_differences_are_listed_in_the_networks_order_and_counted() -> None:
    with pytest.raises(MismatchError) as caught:
        check_fit(OWN, {"c": (1,), "a": (3, 2)}, "what helps.", what="design")
    assert caught.value.message == (
        "the design does not fit the checkpoint: 'a' ((2, 3) in the design, (3, 2) in the file), "
        "'b' ((2,) in the design, absent in the file), "
        "'n.num_batches_tracked' (() in the design, absent in the file), "
        "'c' (absent in the design, (1,) in the file)."
    )
    assert caught.value.hint == "what helps."
    with pytest.raises(MismatchError, match="and 2 more"):
        check_fit({}, {str(i): (i,) for i in range(6)}, "")


def test_an_optional_tensor_of_another_shape_still_differs() -> None:
    with pytest.raises(MismatchError, match="num_batches_tracked"):
        check_fit(OWN, {**OWN, "n.num_batches_tracked": (1,)}, "", is_counter)
