"""What a module is, as text to hash: its classes' code, its settings, its tensors' shapes and ties."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from deepalign_cli.models.example import Example

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def fingerprint(module: nn.Module, example: Example) -> Iterator[str]:
    """Texts that differ where two modules may compute differently on inputs of these shapes.

    Code that a module calls outside of its classes is not seen: who relies on this checks the result.
    """
    yield torch.__version__
    classes: dict[type, None] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        cls = type(part)
        classes[cls] = None
        yield f"{path} {cls.__module__}.{cls.__qualname__}"
        for name, value in sorted(vars(part).items()):
            if not name.startswith("_") or isinstance(value, types.FunctionType):
                yield f"{name}={_text(value)}"
    for cls in classes:
        yield from _code_of(cls)
    seen: dict[int, str] = {}
    for name, w in module.state_dict(keep_vars=True).items():
        if isinstance(w, Tensor):
            yield f"{name} {tuple(w.shape)} {w.dtype} {seen.setdefault(id(w), name)}"
    for name, b in module.named_buffers():
        yield f"{name} {tuple(b.shape)} {b.dtype}"
    yield " ".join(f"{tuple(t.shape)} {t.dtype}" for t in example.tensors())


def _code_of(cls: type) -> Iterator[str]:
    """The code of a class and of its bases, as far as torch.nn itself."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        for name, value in sorted(vars(base).items()):
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                yield f"{base.__qualname__}.{name} {_text(function)}"


def _text(value: Any, depth: int = 0) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, types.FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if depth < 3]
        inside = " ".join(_text(c, depth + 1) for c in cells)
        return f"{_code(value.__code__)} {_text(value.__defaults__, depth + 1)} {inside}"
    if isinstance(value, list | tuple | set | frozenset) and depth < 3:
        return f"[{' '.join(_text(one, depth + 1) for one in value)}]"
    if isinstance(value, dict) and depth < 3:
        return f"{{{' '.join(f'{key!r}:{_text(one, depth + 1)}' for key, one in value.items())}}}"
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)} {value.dtype}"
    to_json = getattr(value, "to_json_string", None)  # a config of transformers
    return str(to_json()) if callable(to_json) else type(value).__qualname__


def _code(code: types.CodeType) -> str:
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
