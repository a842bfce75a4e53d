"""A network in memory as a checkpoint: what `nn.Module.state_dict` returns, with names, shapes and ties."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.checkpoint import Checkpoint
from deepalign_cli.checkpoint.info import CODES, Contents, TensorInfo
from deepalign_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


class MemoryCheckpoint(Checkpoint):
    """A mapping of tensors under the name that reports call it by; the tensors themselves are not copied.

    Raises:
        CheckpointError: a value is not a tensor, or of a type that safetensors does not know.
    """

    def __init__(self, tensors: Mapping[str, Tensor], name: str) -> None:
        infos: list[TensorInfo] = []
        places: dict[tuple[object, ...], str] = {}
        for key, tensor in tensors.items():
            code = CODES.get(str(getattr(tensor, "dtype", "")).removeprefix("torch."))
            if code is None:
                what = f"'{key}' in '{name}' is {type(tensor).__name__}, not a tensor of a known type."
                raise CheckpointError(what, "give a state dict: names and tensors.")
            place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) if tensor.numel() else (key,)
            first = places.setdefault(place, key)
            tied = first if first != key else None
            infos.append(TensorInfo(key, key, code, tuple(tensor.shape), tied, Path(name), 0))
        super().__init__(Path(name), Contents(tuple(infos), ordered=True), {}, {})
        self._tensors = {info.name: tensors[info.stored_name] for info in self.infos.values()}

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, on the CPU and without its gradient."""
        return self._tensors[name].detach().cpu()

    def sha256(self) -> str:
        """The sha256 of all names, types, shapes and values."""
        if self._sha256 is None:
            import torch

            digest = hashlib.sha256()
            for name, info in self.infos.items():
                digest.update(f"{name} {info.dtype} {info.shape}\0".encode())
                digest.update(self[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
            self._sha256 = digest.hexdigest()
        return self._sha256
