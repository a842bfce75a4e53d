"""Aligners: one protocol, many methods."""

from __future__ import annotations

from deepalign_cli.align.alignment import Aligner, Alignment, distance
from deepalign_cli.align.none import NoAlignment
from deepalign_cli.align.weights import WeightMatching

__all__ = ["Aligner", "Alignment", "NoAlignment", "WeightMatching", "distance"]
