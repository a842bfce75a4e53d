"""A network in memory as a checkpoint: what `nn.Module.state_dict` returns, with names, shapes and ties."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.checkpoint import Checkpoint
from deepalign_cli.checkpoint.info import CODES, Contents, TensorInfo
from deepalign_cli.checkpoint.names import check_name
from deepalign_cli.checkpoint.problems import Malformed, blame, shown

if TYPE_CHECKING:
    from torch import Tensor

_HINT = "give a state dict: names and tensors"


class MemoryCheckpoint(Checkpoint):
    """A mapping of tensors under the name that reports call it by; the tensors themselves are not copied.

    What is not a tensor is left out, with a note.

    Raises:
        CheckpointError: there are no tensors, or one has no values or a type that safetensors does not know.
    """

    def __init__(self, tensors: Mapping[str, Tensor], name: str) -> None:
        from torch import Tensor

        # All at once: tensors that are made as they are asked for would follow one another in one place.
        entries = dict(tensors)
        kept = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
        others = [shown(key) for key in entries if key not in kept]
        notes = (f"left out what is not a tensor: {', '.join(others)}",) if others else ()
        with blame(Path(name)):
            if not kept:
                raise Malformed("it holds no tensors", _HINT)
            infos = _infos(kept, Path(name))
        super().__init__(Path(name), Contents(infos, ordered=True, notes=notes), {}, {})
        self._tensors = {info.name: kept[info.stored_name] for info in self.infos.values()}

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, on the CPU and without its gradient."""
        return self._tensors[name].detach().cpu()

    def flat(self, name: str, start: int, stop: int) -> Tensor:
        """A part of the tensor, in row-major order."""
        return self[name].reshape(-1)[start:stop]

    def sha256(self, threads: int = 1, stop: Event | None = None) -> str:
        """The sha256 of all names, types, shapes and values."""
        if self._sha256 is None:
            import torch

            digest = hashlib.sha256()
            for name, info in self.infos.items():
                digest.update(f"{name} {info.dtype} {info.shape}\0".encode())
                digest.update(self[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
            self._sha256 = digest.hexdigest()
        return self._sha256


def _infos(tensors: Mapping[str, Tensor], file: Path) -> tuple[TensorInfo, ...]:
    """What there is to know of every tensor; those that lie in one place are tied."""
    infos: list[TensorInfo] = []
    places: dict[tuple[object, ...], str] = {}
    for key, tensor in tensors.items():
        check_name(key)
        code, kind = CODES.get(str(tensor.dtype).removeprefix("torch.")), type(tensor).__name__
        if tensor.is_meta or kind.startswith("Uninitialized"):
            raise Malformed(f"tensor {shown(key)} has no values yet", "load or initialise the network first")
        if code is None or str(tensor.layout) != "torch.strided":
            what = f"tensor {shown(key)} is {tensor.dtype}, {tensor.layout}, which deepalign does not read"
            raise Malformed(what, "convert it to a dense float tensor, or leave it out")
        shape = tuple(tensor.shape)
        is_empty = not tensor.numel()
        place = key if is_empty else (tensor.device, tensor.data_ptr(), code, shape, tensor.stride())
        first = places.setdefault((place,), key)
        infos.append(TensorInfo(key, key, code, shape, first if first != key else None, file, 0))
    return tuple(infos)
