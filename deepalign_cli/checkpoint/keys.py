"""The keys under which a checkpoint's metadata say what computes with it, and how raw images are prepared."""

from __future__ import annotations

DESIGN_KEY = "deepalign.design"
PREPARATION_KEY = "deepalign.preparation"
