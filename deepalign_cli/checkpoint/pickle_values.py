"""What a pickle can turn into here besides plain values: inert stand-ins, and what makes them.

Nothing in this file touches a tensor or a file; a `View` says where a tensor's bytes are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from deepalign_cli.checkpoint.info import DTYPES, MAX_NUMEL, check_shape, extent, row_major
from deepalign_cli.checkpoint.problems import Malformed, shown

MAX_EXPANDED = 64 * 2**20  # bytes that a view may have beyond those of its storage


class Inert:
    """Something that is not a tensor and not needed."""

    __slots__ = ()


INERT = Inert()


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A tensor of a kind that deepalign does not read: an error only if it turns out to be a weight."""

    kind: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes in the file; `code` is None where the storage itself does not say what they are."""

    code: str | None
    offset: int
    nbytes: int
    unsupported: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: a typed window onto a storage."""

    code: str
    offset: int  # in bytes from the file's beginning
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Name:
    """An allowed global: what it is called, and what stands for a call of it."""

    name: str
    make: Callable[[tuple[object, ...]], object]
    code: str | None = None  # of a dtype or a typed storage
    itemsize: int = 0  # of a storage's elements
    unsupported: str = ""


def make_inert(_: tuple[object, ...]) -> Inert:
    """A call whose result nobody needs."""
    return INERT


def make_mapping(_: tuple[object, ...]) -> dict[object, object]:
    """A mapping, to be filled by the opcodes that follow; what it was called with is left out."""
    return {}


def make_size(args: tuple[object, ...]) -> object:
    """torch.Size: a tuple of ints."""
    return args[0] if len(args) == 1 and isinstance(args[0], tuple) else INERT


def make_tensor(args: tuple[object, ...]) -> View | Unsupported:
    """torch._utils._rebuild_tensor, _v2: storage, offset, shape, strides, requires_grad, hooks, metadata."""
    if len(args) not in (4, 6, 7):
        raise Malformed(f"its pickle builds a tensor from {len(args)} arguments")
    storage = args[0]
    code = storage.code if isinstance(storage, Storage) else None
    return _view(storage, code, args[1:4], args[6] if len(args) == 7 else None)


def make_tensor_with_dtype(args: tuple[object, ...]) -> View | Unsupported:
    """torch._utils._rebuild_tensor_v3: as above, and the dtype after the hooks."""
    if len(args) not in (7, 8) or not isinstance(args[6], Name):
        raise Malformed(f"its pickle builds a tensor from {len(args)} arguments")
    if args[6].unsupported:
        return Unsupported(args[6].unsupported)
    return _view(args[0], args[6].code, args[1:4], args[7] if len(args) == 8 else None)


def _view(
    storage: object, code: str | None, place: tuple[object, ...], metadata: object
) -> View | Unsupported:
    if not isinstance(storage, Storage):
        raise Malformed("its pickle builds a tensor from something that is not a storage")
    if storage.unsupported:
        return Unsupported(storage.unsupported)
    if code is None:
        raise Malformed("its pickle builds a tensor of no type")
    if isinstance(metadata, dict) and any(metadata.values()):
        return Unsupported("a lazily negated or conjugated view")
    offset, shape, strides = place
    size = check_shape(shape, "a tensor in its pickle")
    steps = _check_strides(strides, len(size))
    itemsize = DTYPES[code].itemsize
    if type(offset) is not int or not 0 <= offset <= storage.nbytes:
        raise Malformed("its pickle holds a tensor that begins outside its storage")
    reach = (offset + extent(size, steps)) * itemsize
    if reach > storage.nbytes:
        raise Malformed(f"its pickle holds a tensor of {shown(reach)} bytes in a storage of {storage.nbytes}")
    total = math.prod(size) * itemsize
    if total > storage.nbytes + MAX_EXPANDED:
        raise Malformed(f"its pickle holds a tensor of {total} bytes over a storage of {storage.nbytes}")
    plain = 0 in size or all(n == 1 or a == b for n, a, b in zip(size, steps, row_major(size), strict=True))
    return View(code, storage.offset + offset * itemsize, size, None if plain else steps)


def _check_strides(strides: object, dims: int) -> tuple[int, ...]:
    if not isinstance(strides, tuple) or len(strides) != dims:
        raise Malformed("its pickle holds a tensor whose strides do not match its shape")
    if any(type(step) is not int or not 0 <= step <= MAX_NUMEL for step in strides):
        raise Malformed("its pickle holds a tensor with impossible strides")
    return strides


def make_parameter(args: tuple[object, ...]) -> object:
    """torch._utils._rebuild_parameter: the tensor, and things that only training needs."""
    if not args or not isinstance(args[0], View | Unsupported):
        raise Malformed("its pickle builds a parameter from something that is not a tensor")
    return args[0]


def make_from_type(args: tuple[object, ...]) -> object:
    """torch._tensor._rebuild_from_type_v2: function, type, arguments, state."""
    match args:
        case (Name(make=make), _, tuple(inner), _) if make in _BUILDERS:
            return make(inner)
    raise Malformed("its pickle builds a tensor in an unknown way")


_BUILDERS = (make_tensor, make_tensor_with_dtype, make_parameter)  # and so it cannot call itself


def make_unsupported(kind: str) -> Callable[[tuple[object, ...]], object]:
    """What stands for a function that builds tensors of a kind that deepalign does not read."""
    return lambda _: Unsupported(kind)
