"""Checkpoints as networks that run: the architecture is the user's code, a design, or a known family."""

from __future__ import annotations

from deepalign_cli.evaluate.models.input_shape import input_shape_of
from deepalign_cli.evaluate.models.network import Network, network_for

__all__ = ["Network", "input_shape_of", "network_for"]
