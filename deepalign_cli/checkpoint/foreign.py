"""Files and folders of other formats: one table, each named with the line that converts it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

GIVE = "give a safetensors file, a file of torch.save, or a folder that holds one"
_WHERE = "where you trust it: "
_PAGE = ("is a web page, not a checkpoint", "download the file itself")


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is not read: what it is, what to do, and how it is told.

    By its beginning (and the path, where bytes do not decide), or by the names in a zip file or in a folder.
    """

    what: str
    hint: str
    begins: Callable[[bytes, Path], bool] | None = None
    members: Callable[[Collection[str]], bool] | None = None
    folder: Callable[[Collection[str]], bool] | None = None

    @property
    def told(self) -> tuple[str, str]:
        """A sentence on a file of it, and the hint."""
        return f"it {self.what}", self.hint


def by_beginning(head: bytes, path: Path) -> tuple[str, str] | None:
    """What a file of this beginning is, and what to do; None where it is none of the table's."""
    return next((f.told for f in _FORMATS if f.begins and f.begins(head, path)), None)


def by_members(names: Collection[str]) -> tuple[str, str] | None:
    """The same by the names of a zip file's members."""
    return next((f.told for f in _FORMATS if f.members and f.members(names)), None)


def by_folder(names: Collection[str]) -> Format | None:
    """The format by the names in a folder."""
    return next((f for f in _FORMATS if f.folder and f.folder(names)), None)


def _starts(*magic: bytes) -> Callable[[bytes, Path], bool]:
    return lambda head, _: head.startswith(magic)


def _holds(pattern: str) -> Callable[[Collection[str]], bool]:
    """Whether one of the names matches."""
    known = re.compile(pattern)
    return lambda names: any(known.search(name) for name in names)


def _is_onnx(head: bytes, path: Path) -> bool:
    """A protobuf that begins with a small ir_version; the producer, or the suffix, says the rest."""
    producer = re.match(rb"\x08.\x12.(pytorch|onnx|tf2onnx|skl2onnx|keras)", head, re.DOTALL)
    return producer is not None or (path.suffix == ".onnx" and head[:1] == b"\x08")


def _is_msgpack(head: bytes, path: Path) -> bool:
    """A mapping whose first key is text, as Flax writes it; or the suffix."""
    keyed = re.match(rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.)[\w/.-]", head, re.DOTALL)
    return keyed is not None or path.suffix == ".msgpack"


def _is_paddle(head: bytes, path: Path) -> bool:
    return path.suffix in (".pdparams", ".pdopt") or b"StructuredToParameterName@@" in head


_SHARDS = (
    "torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
    "options=StateDictOptions(full_state_dict=True, cpu_offload=True)), and torch.save what it returns"
)
DISTRIBUTED = ("its tensors are shards of a distributed run (FSDP, DTensor)", f"save it whole: {_SHARDS}")

_FORMATS = (
    Format("is a Git LFS pointer, not the weights", "run: git lfs pull", _starts(b"version https://git-lfs")),
    Format(*_PAGE, _starts(b"<!DOCTYPE", b"<!doctype", b"<html")),
    Format(
        "is a GGUF file, which deepalign does not read",
        "give the checkpoint that it was made from: a conversion to GGUF mostly quantises",
        _starts(b"GGUF"),
    ),
    Format(
        "is an HDF5 file (Keras .h5), which deepalign does not read",
        _WHERE + "python -c \"import keras, torch; m = keras.models.load_model('x.h5'); "
        "torch.save({w.path: torch.tensor(w.numpy()) for w in m.weights}, 'x.pt')\"",
        _starts(b"\x89HDF"),
    ),
    Format(
        "is a Keras file, which deepalign does not read",
        _WHERE + "python -c \"import keras, torch; m = keras.models.load_model('x.keras'); "
        "torch.save({w.path: torch.tensor(w.numpy()) for w in m.weights}, 'x.pt')\"",
        members=_holds(r"^model\.weights\.h5$"),
    ),
    Format(
        "is a NumPy file of one array, which deepalign does not read",
        "python -c \"import numpy, torch; torch.save({'w': torch.tensor(numpy.load('x.npy'))}, 'x.pt')\"",
        _starts(b"\x93NUMPY"),
    ),
    Format(
        "is a NumPy archive (.npz), which deepalign does not read",
        'python -c "import numpy, torch; '
        "torch.save({k: torch.tensor(w) for k, w in numpy.load('x.npz').items()}, 'x.pt')\"",
        members=_holds(r"\.npy$"),
    ),
    Format(
        "is a TorchScript program, not a state dict",
        _WHERE + "torch.save(torch.jit.load('model.pt').state_dict(), 'weights.pt')",
        members=_holds(r"^[^/]+/(constants\.pkl$|code/)"),
    ),
    Format(
        "is an exported program (.pt2), not a state dict",
        _WHERE + "torch.save(torch.export.load('x.pt2').state_dict, 'x.pt'). As it is, it can say what "
        "computes with weights: --model x.pt2",
        members=_holds(r"(^|/)(archive_format|serialized_exported_program\.json|models/[^/]+\.json)$"),
    ),
    Format(
        "is a TorchServe archive (.mar), which deepalign does not read",
        "take the checkpoint out of it: unzip x.mar",
        members=_holds(r"^MAR-INF/"),
    ),
    Format(
        "is an ONNX file, which deepalign does not read",
        'python -c "import onnx, torch; from onnx.numpy_helper import to_array; '
        "torch.save({w.name: torch.tensor(to_array(w)) for w in onnx.load('x.onnx').graph.initializer}, "
        "'x.pt')\"",
        _is_onnx,
    ),
    Format(
        "is a TensorFlow Lite file, which deepalign does not read",
        "give the checkpoint that it was made from: a conversion to TFLite folds and quantises layers",
        lambda head, _: head[4:8] == b"TFL3",
    ),
    Format(
        "is a model of TensorFlow.js, which deepalign does not read",
        "tensorflowjs_converter --input_format tfjs_layers_model --output_format keras model.json x.h5, and "
        "convert that",
        lambda head, _: (
            head[:1] == b"{" and re.search(rb'"(modelTopology|weightsManifest)"', head) is not None
        ),
        folder=_holds(r"^group\d+-shard\d+of\d+\.bin$"),
    ),
    Format(
        "is a file of Paddle, which deepalign does not read",
        _WHERE + 'python -c "import paddle, torch; '
        "torch.save({k: torch.tensor(w.numpy()) for k, w in paddle.load('x.pdparams').items()}, 'x.pt')\"",
        _is_paddle,
    ),
    Format(
        "is a msgpack file (Flax), which deepalign does not read",
        'python -c "import flax, torch; from flax.traverse_util import flatten_dict as flat; '
        "w = flax.serialization.msgpack_restore(open('x.msgpack', 'rb').read()); "
        "torch.save({k: torch.tensor(v) for k, v in flat(w, sep='.').items()}, 'x.pt')\"",
        _is_msgpack,
    ),
    Format(
        "is a distributed checkpoint of PyTorch (DCP)",
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER x.pt",
        folder=_holds(r"^(\.metadata|.*\.distcp)$"),
    ),
    Format(
        "is a checkpoint of DeepSpeed (ZeRO)",
        "python zero_to_fp32.py FOLDER x, with the script that lies in the folder of the run",
        folder=_holds(r"^(zero_to_fp32\.py|.*zero_pp_rank_\d+_mp_rank_\d+_optim_states\.pt)$"),
    ),
    Format(
        "is a SavedModel of TensorFlow",
        "python -c \"import tensorflow as tf, torch; m = tf.saved_model.load('FOLDER'); "
        "torch.save({w.name: torch.tensor(w.numpy()) for w in m.variables}, 'x.pt')\"",
        folder=_holds(r"^saved_model\.pb$"),
    ),
)
