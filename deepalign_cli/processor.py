"""What the processor does fast."""

from __future__ import annotations

import functools

import torch


@functools.cache
def multiplies_halves() -> bool:
    """Whether the processor has instructions for products of bfloat16; without them these are slower."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
