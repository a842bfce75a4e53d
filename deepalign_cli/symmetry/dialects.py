"""Why two files of one architecture may name its tensors differently, and what brings them together."""

from __future__ import annotations

import re

from deepalign_cli.checkpoint import Checkpoint

_WEIGHT_NORM = (re.compile(r"\.weight_[gv]$"), re.compile(r"\.parametrizations\.weight\.original[01]$"))
_FUSED = (re.compile(r"\.experts\.\d+\."), re.compile(r"\.experts\.[^.]*[a-z_]+(\.\w+)?$"))
RESAVE = (
    "save with one version: AutoModel.from_pretrained(F).save_pretrained(OUT, save_original_format=False)"
)


def naming_hint(one: Checkpoint, other: Checkpoint) -> str:
    """Why the names of two checkpoints differ, if that can be told, and what to do; else nothing."""
    for (first, second), what in (
        (_WEIGHT_NORM, "weight_norm is stored in its older form (weight_g, weight_v) by one of them"),
        (_FUSED, "experts are stored one by one in one of them and fused in the other"),
    ):
        for a, b in ((one, other), (other, one)):
            if _has(a, first) and not _has(b, first) and _has(b, second):
                return f"{what}: {RESAVE}"
    same = one.config.get("model_type"), one.config.get("architectures")
    if same[0] and same == (other.config.get("model_type"), other.config.get("architectures")):
        return (
            f"both are {same[0]} of transformers, saved by versions that name tensors differently: {RESAVE}"
        )
    return ""


def _has(checkpoint: Checkpoint, names: re.Pattern[str]) -> bool:
    return any(names.search(name) for name in checkpoint)
