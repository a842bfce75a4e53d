"""One process, or several that share a training run through Hugging Face accelerate."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from deepalign_cli.errors import UsageError


class Workers:
    """This process's place among those of a run, and the mean of their gradients."""

    def __init__(self) -> None:
        self._accelerator: Any = None
        self.rank, self.count = 0, 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self._join()

    def average(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over all processes; one that is missing counts as zero."""
        if self._accelerator is None:
            return
        for parameter in model.parameters():
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self._accelerator.reduce(grad, "mean")

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def _join(self) -> None:
        try:
            from accelerate import Accelerator  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise UsageError(
                "training in several processes needs accelerate.", "pip install 'deepalign[train]'"
            ) from None
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.rank, self.count = self._accelerator.process_index, self._accelerator.num_processes
