"""One process, or several that share a training run through Hugging Face accelerate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from deepalign_cli.errors import UsageError

# Under which names launchers say how many processes there are: torchrun's and three MPIs'.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


class Workers:
    """This process's place among those of a run, and the mean of their gradients.

    Raises:
        UsageError: there are several processes, but no accelerate; or there should be, but there are not.
    """

    def __init__(self) -> None:
        self._accelerator: Any = None
        self.rank, self.count = 0, 1
        if _processes(os.environ) > 1:
            self._join()

    def average(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over all processes; one that is missing counts as zero."""
        if self._accelerator is None:
            return
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self._accelerator.reduce(grad, "mean")

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def leave(self) -> None:
        """Part from the other processes, all at once, when the work of each is done.

        One that left while another still held connections to it could be ended by their threads.
        """
        if self._accelerator is not None:
            self.wait()
            self._accelerator.end_training()

    def _join(self) -> None:
        try:
            from accelerate import Accelerator  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            message = "training in several processes needs accelerate."
            raise UsageError(message, "pip install 'deepalign[train]'") from None
        self._accelerator = Accelerator(cpu=True)  # where the networks and the examples are
        self.rank, self.count = self._accelerator.process_index, self._accelerator.num_processes


def _processes(environment: Mapping[str, str]) -> int:
    """How many processes were started together.

    Raises UsageError where `accelerate launch --cpu --num_processes N` started only one: it relies on MPI.
    """
    sizes = [environment[name] for name in _SIZES if environment.get(name)]
    if sizes:
        return int(sizes[0])
    if "ACCELERATE_USE_CPU" in environment and "MASTER_ADDR" in environment:
        raise UsageError(
            "accelerate launch --cpu starts one process only.",
            "accelerate launch --multi_gpu --num_processes N starts N, and needs no GPU.",
        )
    return 1
