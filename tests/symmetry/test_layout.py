from __future__ import annotations

from deepalign_cli.symmetry.layout import Layout

SHAPES: dict[str, tuple[int, ...]] = {
    "net.conv.weight": (8, 3, 3, 3),
    "net.bn.running_mean": (8,),
    "net.conv.bias": (8,),
    "net.bn.num_batches_tracked": (),
    "W1": (2, 8),
}


def test_tensors_are_gathered_by_module_in_the_files_order() -> None:
    modules = Layout(SHAPES).modules()
    assert list(modules) == ["net.conv", "net.bn", "1"]
    conv, norm, linear = modules.values()
    assert conv.names == {"weight": "net.conv.weight", "bias": "net.conv.bias"}
    assert (conv.rank, norm.rank, linear.rank) == (4, 0, 2)
    assert (conv.is_norm, norm.is_norm, linear.is_norm) == (False, True, False)
    assert (conv.has_statistics, norm.has_statistics) == (False, True)
    assert (conv.strict, linear.strict) == (True, False)


def test_a_part_is_seen_without_its_prefix() -> None:
    part = Layout(SHAPES, heads=4).within("net.")
    assert list(part.shapes) == ["conv.weight", "bn.running_mean", "conv.bias", "bn.num_batches_tracked"]
    assert part.heads == 4
