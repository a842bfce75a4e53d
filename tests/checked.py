"""Signatures are checked as they are called: those with shapes by jaxtyping, all others by beartype alone.

jaxtyping's hook would do the same for every function of the package, and check the arguments before a call
and again after it, for shapes that nine in ten signatures do not have; that was a third of the tests' time.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from types import CodeType
from typing import Any, TypeVar, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

T = TypeVar("T")

# As a static checker has it, an int is good where a float is asked for. What does not fit raises TypeError,
# as with jaxtyping: code that looks for a wrong type in a broken file meets the error that it knows.
typed = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
_by_jaxtyping = jaxtyping.jaxtyped
_left_alone: set[CodeType] = set()


def install(package: str) -> None:
    """Check every signature of a package that nothing has imported yet."""
    jaxtyping.install_import_hook(package, f"{__name__}.typed")
    jaxtyping.jaxtyped = _checked  # the hook writes `@jaxtyping.jaxtyped(typechecker=...)` over what it finds


def _checked(target: T | None = None, *, typechecker: Callable[..., Any]) -> Any:
    """What `jaxtyped` makes of a function or class, but for functions without shapes."""
    if target is None:
        return partial(_checked, typechecker=typechecker)
    if inspect.isclass(target):
        if dataclasses.is_dataclass(target) and target.__dataclass_params__.init:  # type: ignore[attr-defined]
            target.__init__ = _checked(target.__init__, typechecker=typechecker)  # type: ignore[misc]
        return target
    assert inspect.isfunction(target), target
    if target.__code__ in _left_alone:
        return target
    hints = {name: _hint(text, target.__globals__) for name, text in target.__annotations__.items()}
    shaped = any(map(_has_shape, hints.values()))
    if not shaped and "<locals>" in target.__qualname__:  # made at each call of the function around it: slow
        _left_alone.add(target.__code__)
        return target
    texts, target.__annotations__ = target.__annotations__, hints
    made = typechecker(target)
    if shaped:
        made = _by_jaxtyping(made, typechecker=None)  # which says what the letters of a call mean
    target.__annotations__ = made.__annotations__ = texts
    return made


def _hint(annotation: object, names: dict[str, Any]) -> object:
    """What an annotation's text means; anything, where that is not known yet or to type checkers alone."""
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation
    except Exception:
        return Any


def _has_shape(hint: object) -> bool:
    """Whether a hint has one of jaxtyping's in it."""
    if isinstance(hint, list):  # the arguments of a Callable
        return any(map(_has_shape, hint))
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_has_shape, get_args(hint)))
