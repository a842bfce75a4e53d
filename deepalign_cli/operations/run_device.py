"""The device that networks are run on, by what a command was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepalign_cli.devices import device_of
from deepalign_cli.models.on_device import CPU, runs_on
from deepalign_cli.operations.run_settings import RunSettings

if TYPE_CHECKING:
    from deepalign_cli.operations.testbed import Testbed


def run_device(running: RunSettings | Testbed | None) -> torch.device:
    """That of the settings, or of a testbed that is open. Raises UsageError where there is no such device."""
    if running is None or isinstance(running, RunSettings):
        named = running and running.device
        return device_of(named) if named else CPU
    return runs_on(running.run)
