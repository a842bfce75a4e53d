"""Where networks are trained and run: `--device`."""

from __future__ import annotations

import torch

from deepalign_cli.errors import UsageError

DEVICES = ("cpu", "cuda", "mps")


def device_of(name: str) -> torch.device:
    """The device of a name: cpu, cuda (or cuda:N) or mps.

    Raises:
        UsageError: there is no such device here.
    """
    kind, _, number = name.partition(":")
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if kind not in counts or not (number.isdecimal() or number == name[len(kind) :]):
        raise UsageError(f"there is no device '{name}'.", f"--device is one of {', '.join(DEVICES)}.")
    if int(number or 0) >= counts[kind]:
        raise UsageError(f"PyTorch finds no device '{name}' here.", "--device cpu works everywhere.")
    return torch.device(name)
