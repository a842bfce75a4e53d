"""Calling the user's own Python: `file.py:factory` or `package.module:factory`. This runs their code."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from deepalign_cli.errors import DeepalignError, UsageError, one_line

_WORDS = {"true": True, "false": False, "none": None}
_HINT = "give --model path/to/file.py:factory, where factory() returns the network as an nn.Module."


def call_factory(reference: str, args: Mapping[str, str], hint: str = _HINT) -> object:
    """Run the factory that `reference` names with keyword arguments read by `value_of`.

    As where Python itself runs a file or a module, the file's folder (else the working directory) goes
    to the front of `sys.path` and stays there.

    Raises:
        UsageError: there is no such file, module or factory.
        DeepalignError: the user's code raised.
    """
    factory = load_attribute(reference, hint)
    keywords = {name: value_of(text) for name, text in args.items()}
    return guarded(lambda: factory(**keywords), reference)


def value_of(text: str) -> object:
    """`3`, `1e-3`, `true`, `none`, `8,16` and `(8, 16)` as Python values; everything else as text."""
    if (word := text.strip().lower()) in _WORDS:
        return _WORDS[word]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def load_attribute(reference: str, hint: str = _HINT) -> Callable[..., Any]:
    """The function or class that `reference` names, after its file or module has been run.

    Raises:
        UsageError: there is no such file, module or name. DeepalignError: the user's code raised.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name:
        raise UsageError(f"'{reference}' does not name a Python file and a factory in it.", hint)
    module = _run_file(Path(place), reference, hint) if _is_file(place) else _import(place, reference, hint)
    attribute: object = module
    for part in name.split("."):
        attribute = getattr(attribute, part, None)
    if not callable(attribute):
        raise UsageError(f"'{place}' has no callable '{name}'.", hint)
    return attribute


def guarded(function: Callable[[], object], reference: str) -> object:
    """What the user's own code returns.

    Raises:
        DeepalignError: it raised.
    """
    try:
        return function()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise _raised(reference, error) from error


def _raised(reference: str, error: BaseException) -> DeepalignError:
    message = f"'{reference}' raised {type(error).__name__}: {one_line(error)}."
    return DeepalignError(message, "run it on its own to see where.")


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or Path(place).exists()


def _run_file(path: Path, reference: str, hint: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'.", hint)
    name = f"_deepalign_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"'{path}' is not a Python file.", hint)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look for it there
    _to_front(path.parent)
    guarded(functools.partial(spec.loader.exec_module, module), reference)
    return module


def _import(name: str, reference: str, hint: str) -> ModuleType:
    _to_front(Path.cwd())
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    except Exception as error:  # a parent package's own code may raise anything
        raise _raised(reference, error) from error
    if spec is None:
        raise UsageError(f"there is no Python module '{name}', here or installed.", hint)
    module = guarded(lambda: importlib.import_module(name), reference)
    assert isinstance(module, ModuleType)  # what import_module returns
    return module


def _to_front(folder: Path) -> None:
    if (place := str(folder.resolve())) not in sys.path:
        sys.path.insert(0, place)
