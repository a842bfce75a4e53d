"""What `import deepalign_cli` offers, and what it does not load."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import deepalign_cli as da

_LAZY = """
import json, sys
import deepalign_cli as da
light = sorted({"torch", "numpy", "scipy", "safetensors", "rich", "typer"} & set(sys.modules))
names = dir(da)
still = "torch" in sys.modules
import deepalign_cli.aligners, deepalign_cli.operations.align, deepalign_cli.cli.main
from deepalign_cli import align, merge, open
print(json.dumps([light, names, still, [f.__module__ for f in (align, merge, open)]]))
"""


@pytest.mark.slow
def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    told = subprocess.run([sys.executable, "-c", _LAZY], capture_output=True, text=True, check=True).stdout
    light, names, still, modules = json.loads(told)
    assert light == []
    assert set(da.__all__) < set(names)
    assert not still
    assert modules == ["deepalign_cli.api.functions"] * 3


def test_all_that_is_listed_is_there_and_nothing_else() -> None:
    assert dir(da) == sorted([*da.__all__, "__version__"])
    assert len(set(da.__all__)) == len(da.__all__)
    for name in da.__all__:
        value = getattr(da, name)
        assert callable(value)
        assert value.__doc__
        assert value.__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'alignn'"):
        _ = da.alignn  # type: ignore[attr-defined]
    namespace: dict[str, object] = {}
    exec("from deepalign_cli import *", namespace)
    assert set(da.__all__) <= set(namespace)


def test_no_module_takes_the_place_of_a_name() -> None:
    """An import of `deepalign_cli.NAME` would put the module where the function was."""
    assert not {module.name for module in pkgutil.iter_modules(da.__path__)} & set(da.__all__)
    importlib.import_module("deepalign_cli.aligners")
    assert callable(da.align)
