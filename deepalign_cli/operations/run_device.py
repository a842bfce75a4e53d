"""The device that networks are run on, by what a command was given."""

from __future__ import annotations

import torch

from deepalign_cli.devices import device_of
from deepalign_cli.models.on_device import CPU
from deepalign_cli.operations.run_settings import RunSettings


def run_device(running: RunSettings | None) -> torch.device:
    """That of the settings. Raises UsageError where there is no such device."""
    named = running and running.device
    return device_of(named) if named else CPU
