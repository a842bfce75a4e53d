"""What a pickle can turn into here: plain values, and inert stand-ins for everything else.

No name in a pickle is ever imported. Each allowed one maps to a `Name`, whose `make` is a function of
this file; every other name is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deepalign_cli.checkpoint.info import CODES, DTYPES, check_shape, extent, row_major
from deepalign_cli.checkpoint.problems import Forbidden, Malformed, shown

MAX_EXPANDED = 64 * 2**20  # bytes that a view may have beyond those of its storage


class Inert:
    """Something that is no tensor and that we do not need."""

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
    storage: bool = False
    unsupported: str = ""


def look_up(module: str, name: str) -> Name:
    """What stands for a global of a pickle.

    Raises Forbidden for every one that is not in the table.
    """
    full = f"{module}.{name}"
    known = _NAMES.get(full)
    if known is None:
        raise Forbidden(f"its pickle asks for {shown(full)}, which is not needed to hold weights")
    return known


def _inert(_: tuple[object, ...]) -> Inert:
    return INERT


def _mapping(_: tuple[object, ...]) -> dict[object, object]:
    return {}


def _size(args: tuple[object, ...]) -> object:
    return args[0] if len(args) == 1 and isinstance(args[0], tuple) else INERT


def _tensor(args: tuple[object, ...]) -> View | Unsupported:
    """torch._utils._rebuild_tensor, _v2: storage, offset, shape, strides, requires_grad, hooks, metadata."""
    if len(args) not in (4, 6, 7):
        raise Malformed(f"its pickle builds a tensor from {len(args)} arguments")
    storage = args[0]
    code = storage.code if isinstance(storage, Storage) else None
    return _view(storage, code, args[1:4], args[6] if len(args) == 7 else None)


def _tensor_with_dtype(args: tuple[object, ...]) -> View | Unsupported:
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
    if not isinstance(strides, tuple) or len(strides) != len(size):
        raise Malformed("its pickle holds a tensor whose strides do not match its shape")
    steps = check_shape(strides, "the strides of a tensor in its pickle")
    itemsize = DTYPES[code].itemsize
    if type(offset) is not int or not 0 <= offset <= storage.nbytes:
        raise Malformed("its pickle holds a tensor that begins outside its storage")
    reach = (offset + extent(size, steps)) * itemsize
    if reach > storage.nbytes:
        raise Malformed(f"its pickle holds a tensor of {shown(reach)} bytes in a storage of {storage.nbytes}")
    _check_expansion(size, itemsize, storage.nbytes)
    plain = 0 in size or all(n == 1 or a == b for n, a, b in zip(size, steps, row_major(size), strict=True))
    return View(code, storage.offset + offset * itemsize, size, None if plain else steps)


def _check_expansion(shape: tuple[int, ...], itemsize: int, available: int) -> None:
    total = itemsize
    for size in shape:
        total *= size
    if total > available + MAX_EXPANDED:
        raise Malformed(f"its pickle holds a tensor of {total} bytes over a storage of {available}")


def _parameter(args: tuple[object, ...]) -> object:
    """torch._utils._rebuild_parameter: the tensor, and things that only training needs."""
    if not args or not isinstance(args[0], View | Unsupported):
        raise Malformed("its pickle builds a parameter from something that is not a tensor")
    return args[0]


def _from_type(args: tuple[object, ...]) -> object:
    """torch._tensor._rebuild_from_type_v2: function, type, arguments, state."""
    if len(args) == 4:
        function, _, inner, _ = args
        known = isinstance(function, Name) and function.make in (_tensor, _tensor_with_dtype, _parameter)
        if known and isinstance(function, Name) and isinstance(inner, tuple):
            return function.make(inner)
    raise Malformed("its pickle builds a tensor in an unknown way")


def _unsupported(kind: str) -> Callable[[tuple[object, ...]], object]:
    return lambda _: Unsupported(kind)


_FOREIGN = _unsupported("of a device that stores it in another way")
_CALLS: Mapping[str, Callable[[tuple[object, ...]], object]] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "builtins.dict": _mapping,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._utils._rebuild_sparse_tensor": _unsupported("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _unsupported("sparse"),
    "torch._utils._rebuild_qtensor": _unsupported("quantised"),
    "torch._utils._rebuild_nested_tensor": _unsupported("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unsupported("a meta tensor without data"),
    "torch._utils._rebuild_device_tensor_from_numpy": _FOREIGN,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _FOREIGN,
}

# Things that training checkpoints hold beside the weights; each becomes `INERT`.
_HARMLESS = """
    argparse.Namespace types.SimpleNamespace collections.Counter collections.deque
    builtins.set builtins.frozenset builtins.bytearray builtins.bytes builtins.complex builtins.slice
    builtins.range builtins.list builtins.tuple builtins.int builtins.float builtins.str builtins.bool
    builtins.object typing.Any _codecs.encode copyreg._reconstructor uuid.UUID decimal.Decimal
    pathlib.Path pathlib.PosixPath pathlib.PurePosixPath pathlib.WindowsPath pathlib.PureWindowsPath
    pathlib._local.PosixPath pathlib._local.WindowsPath
    datetime.date datetime.time datetime.datetime datetime.timedelta datetime.timezone
    numpy.dtype numpy.ndarray numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct numpy._core.numeric._frombuffer
    numpy.core.numeric._frombuffer
    torch.device torch.Tensor torch.nn.parameter.Parameter torch.nn.parameter.Buffer
    torch.serialization._get_layout torch.strided torch.sparse_coo torch.contiguous_format
    torch.per_tensor_affine torch.per_tensor_symmetric torch.per_channel_affine torch.per_channel_symmetric
    torch.per_channel_affine_float_qparams
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.ContainerMetadata
    omegaconf.base.Metadata omegaconf.nodes.AnyNode
    pytorch_lightning.utilities.parsing.AttributeDict lightning.fabric.utilities.data.AttributeDict
    lightning_fabric.utilities.data.AttributeDict
""".split()  # noqa: SIM905 - one name a line would be a page

_STORAGES: Mapping[str, str] = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
}
_ODD_STORAGES: Mapping[str, tuple[str, int]] = {
    "ComplexDoubleStorage": ("of the type complex128", 16),
    "QInt8Storage": ("quantised", 1),
    "QUInt8Storage": ("quantised", 1),
    "QInt32Storage": ("quantised", 4),
    "QUInt4x2Storage": ("quantised", 1),
    "QUInt2x4Storage": ("quantised", 1),
}
ODD_ITEMSIZE: Mapping[str, int] = {f"torch.{name}": size for name, (_, size) in _ODD_STORAGES.items()}
_ODD_DTYPES = (
    "complex32",
    "complex128",
    "qint8",
    "quint8",
    "qint32",
    "quint4x2",
    "quint2x4",
    "float4_e2m1fn_x2",
)


def _table() -> dict[str, Name]:
    names = {name: Name(name, _inert) for name in _HARMLESS}
    names |= {name: Name(name, make) for name, make in _CALLS.items()}
    for torch_name, code in CODES.items():
        names[f"torch.{torch_name}"] = Name(f"torch.{torch_name}", _inert, code)
    for torch_name in _ODD_DTYPES:
        full = f"torch.{torch_name}"
        names[full] = Name(full, _inert, unsupported=f"of the type {torch_name}")
    for storage, code in _STORAGES.items():
        names[f"torch.{storage}"] = Name(f"torch.{storage}", _inert, code, storage=True)
    for storage, (why, _) in _ODD_STORAGES.items():
        names[f"torch.{storage}"] = Name(f"torch.{storage}", _inert, storage=True, unsupported=why)
    for full in ("torch.storage.UntypedStorage", "torch.UntypedStorage"):
        names[full] = Name(full, _inert, storage=True)
    return names


_NAMES: Mapping[str, Name] = MappingProxyType(_table())
