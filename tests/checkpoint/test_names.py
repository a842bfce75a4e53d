from __future__ import annotations

import pytest

from deepalign_cli.checkpoint.names import check_name, common_prefix, logical_names
from deepalign_cli.checkpoint.problems import Malformed


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        ([], ""),
        (["a", "b"], ""),
        (["module.a", "module.b"], "module."),
        (["module.a", "b"], ""),
        (["model.layers.0", "lm_head"], ""),
        (["module._orig_mod.a", "module._orig_mod.b"], "module._orig_mod."),
        (["_orig_mod.module.a", "_orig_mod.module.b"], "_orig_mod.module."),
        (["module.model.a", "module.b"], "module."),
        (["module.module.a"], "module.module."),
        (["module."], ""),
        (["module.module.", "module.b"], "module."),
    ],
)
def test_common_prefix(names: list[str], prefix: str) -> None:
    assert common_prefix(names) == prefix


@pytest.mark.parametrize(
    ("names", "logical"),
    [
        (["encoder._orig_mod.0.weight", "head.weight"], ["encoder.0.weight", "head.weight"]),
        (["module.a._orig_mod.b._orig_mod.c", "module._orig_mod.d"], ["a.b.c", "d"]),
        (["x_orig_mod.a", "b._orig_mod"], ["x_orig_mod.a", "b._orig_mod"]),
        (["a._orig_mod.w", "a.w"], ["a._orig_mod.w", "a.w"]),
    ],
)  # fmt: skip
def test_logical_names(names: list[str], logical: list[str]) -> None:
    assert list(logical_names(names, common_prefix(names)).values()) == logical


@pytest.mark.parametrize("name", ["", "__metadata__", "a\nb", "a\x00", "\ud800", "x" * 1025, 3, None, b"a"])
def test_names_that_cannot_be(name: object) -> None:
    with pytest.raises(Malformed):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "layer 1.weight", "größe", "层.weight", "x" * 1024])
def test_names_that_can_be(name: str) -> None:
    assert check_name(name) == name
