"""The names that a pickle may use, and what stands for each; no name is ever imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from deepalign_cli.checkpoint import foreign
from deepalign_cli.checkpoint.info import CODES, DTYPES
from deepalign_cli.checkpoint.pickle_values import (
    Name,
    make_from_type,
    make_inert,
    make_mapping,
    make_parameter,
    make_size,
    make_tensor,
    make_tensor_with_dtype,
    make_unsupported,
)
from deepalign_cli.checkpoint.problems import Forbidden, Malformed, shown


def look_up(module: str, name: str) -> Name:
    """What stands for a global of a pickle.

    Raises Forbidden for every one that is not in the table; Malformed for one of a distributed run.
    """
    full = f"{_RENAMED.get(module, module)}.{name}"
    known = _NAMES.get(full)
    if known is None and module.startswith("torch.distributed."):
        raise Malformed(*foreign.DISTRIBUTED)
    if known is None:
        raise Forbidden(f"its pickle asks for {shown(full)}, which is not needed to hold weights")
    return known


_foreign = make_unsupported("of a device that stores it in another way")
_CALLS: Mapping[str, Callable[[tuple[object, ...]], object]] = {
    "collections.OrderedDict": make_mapping,
    "collections.defaultdict": make_mapping,
    "builtins.dict": make_mapping,
    "torch.Size": make_size,
    "torch._utils._rebuild_tensor": make_tensor,
    "torch._utils._rebuild_tensor_v2": make_tensor,
    "torch._utils._rebuild_tensor_v3": make_tensor_with_dtype,
    "torch._utils._rebuild_parameter": make_parameter,
    "torch._utils._rebuild_parameter_with_state": make_parameter,
    "torch._tensor._rebuild_from_type_v2": make_from_type,
    "torch._utils._rebuild_sparse_tensor": make_unsupported("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": make_unsupported("sparse"),
    "torch._utils._rebuild_qtensor": make_unsupported("quantised"),
    "torch._utils._rebuild_nested_tensor": make_unsupported("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": make_unsupported("a meta tensor without data"),
    "torch._utils._rebuild_device_tensor_from_numpy": _foreign,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _foreign,
}

# What training checkpoints hold beside the weights; each becomes `INERT`.
_HARMLESS = """
    argparse.Namespace types.SimpleNamespace collections.Counter collections.deque
    builtins.set builtins.frozenset builtins.bytearray builtins.bytes builtins.complex builtins.slice
    builtins.range builtins.list builtins.tuple builtins.int builtins.float builtins.str builtins.bool
    builtins.object builtins.long builtins.unicode builtins.xrange
    typing.Any _codecs.encode copyreg._reconstructor uuid.UUID decimal.Decimal
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

_RENAMED: Mapping[str, str] = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocol 2 writes them

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


def _table() -> Mapping[str, Name]:
    names = [Name(name, make_inert) for name in _HARMLESS]
    names += [Name(name, make) for name, make in _CALLS.items()]
    names += [Name(f"torch.{dtype}", make_inert, code) for dtype, code in CODES.items()]
    names += [Name(f"torch.{dtype}", make_inert, unsupported=f"of the type {dtype}") for dtype in _ODD_DTYPES]
    names += [Name(f"torch.{s}", make_inert, code, DTYPES[code].itemsize) for s, code in _STORAGES.items()]
    names += [Name(f"torch.{s}", make_inert, None, size, why) for s, (why, size) in _ODD_STORAGES.items()]
    names += [Name(f"torch.{place}UntypedStorage", make_inert, None, 1) for place in ("", "storage.")]
    return MappingProxyType({name.name: name for name in names})


_NAMES = _table()
