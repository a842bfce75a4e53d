from __future__ import annotations

from deepalign_cli.symmetry.families.constants import without_constants
from deepalign_cli.symmetry.layout import Layout

MLP: dict[str, tuple[int, ...]] = {
    "fc1.weight": (16, 8),
    "fc1.bias": (16,),
    "fc2.weight": (1, 16),
    "fc2.bias": (1,),
}


def left_out(more: dict[str, tuple[int, ...]]) -> tuple[set[str], tuple[str, ...]]:
    layout, assumptions = without_constants(Layout({**MLP, **more}))
    assert set(MLP) <= set(layout.shapes)
    return set(more) - set(layout.shapes), assumptions


def test_counters_and_single_numbers_pass_through() -> None:
    names = {"steps": (), "scale": (1,), "act.weight": (1,), "alpha": (1, 1, 1)}
    assert left_out(names) == (set(names), ())
    assert left_out({"bn.num_batches_tracked": ()}) == ({"bn.num_batches_tracked"}, ())


def test_constants_of_the_inputs_pass_through_by_their_names() -> None:
    assert left_out({"mean": (8,), "normalize.std": (1, 8, 1, 1)}) == ({"mean", "normalize.std"}, ())
    assert left_out({"gain": (8,)}) == (set(), ())


def test_a_constant_as_wide_as_hidden_units_is_spoken_of() -> None:
    names, assumptions = left_out({"obs.mean": (16,)})
    assert names == {"obs.mean"}
    assert assumptions == (
        "'obs.mean' [16] is assumed to hold constants of the inputs or outputs, not of hidden units",
    )


def test_a_norm_of_one_unit_is_a_norm() -> None:
    assert left_out({"bn.weight": (1,), "bn.running_mean": (1,)}) == (set(), ())
