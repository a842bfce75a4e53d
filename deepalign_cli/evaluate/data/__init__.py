"""Data sets that networks are measured on: arrays, images, and what others provide."""

from __future__ import annotations

from deepalign_cli.evaluate.data.data import Data, Part, Split
from deepalign_cli.evaluate.data.preparation import Preparation
from deepalign_cli.evaluate.data.sources import Wanted, load_data

__all__ = ["Data", "Part", "Preparation", "Split", "Wanted", "load_data"]
