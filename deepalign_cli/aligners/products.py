"""Products of the rows of two tensors, added up: what takes the time in weight matching.

Tensors of narrow types are widened into buffers that are used again, in the order in which they lie in
memory. Numbers of bfloat16 are multiplied as such where the processor can: their products are exact, and are
added up in float32, so that nothing is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.processor import multiplies_halves
from deepalign_cli.symmetry.tensors import widened

_BUFFER = 1 << 24  # entries
_SETTING = threading.RLock()  # torch has one precision for all threads: they would keep each other's


class Products:
    """Adds up products; two buffers are kept from one to the next."""

    def __init__(self) -> None:
        self._buffers = [torch.empty(0), torch.empty(0)]

    def add(
        self, total: Float[Tensor, "n n"] | None, a: Float[Tensor, "n m"], b: Float[Tensor, "n m"]
    ) -> Float[Tensor, "n n"]:
        """Total + a b^T, in the widest type of the three and float32; in place where the types allow it."""
        dtype = torch.promote_types(widened(a[:0]).dtype, widened(b[:0]).dtype)
        if total is None:
            total = torch.zeros(len(a), len(a), dtype=dtype)
        if total.dtype != dtype:
            return total + a.to(dtype) @ b.to(dtype).T
        if a.dtype == b.dtype == dtype:
            return total.addmm_(a, b.T)
        step = max(1, _BUFFER // max(len(a), 1))
        with exact_in_bfloat16() if a.dtype == b.dtype == torch.bfloat16 else nullcontext():
            for start in range(0, a.shape[1], step):
                x, y = (
                    self._widened(place, w[:, start : start + step], dtype) for place, w in enumerate((a, b))
                )
                total.addmm_(x, y.T)
        return total

    def _widened(self, place: int, part: Float[Tensor, "n k"], dtype: torch.dtype) -> Tensor:
        """The part in a buffer, with its rows or its columns side by side, as in memory."""
        if part.dtype == dtype:
            return part
        if self._buffers[place].numel() < part.numel() or self._buffers[place].dtype != dtype:
            self._buffers[place] = torch.empty(part.numel(), dtype=dtype)
        flat = self._buffers[place][: part.numel()]
        lies_by_columns = part.stride(0) < part.stride(1)
        buffer = flat.view(part.shape[::-1]).T if lies_by_columns else flat.view(part.shape)
        return buffer.copy_(part)


@contextmanager
def exact_in_bfloat16() -> Iterator[None]:
    """Lets torch multiply float32 numbers in bfloat16, which all of them must be, if that is fast here."""
    if not multiplies_halves():
        yield
        return
    with _SETTING:
        try:
            before = torch.get_float32_matmul_precision()
        except RuntimeError:  # somebody has set it by the other of torch's two ways
            yield
            return
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
