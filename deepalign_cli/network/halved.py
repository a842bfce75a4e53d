"""Wide networks are read in bfloat16 where the processor multiplies it several times as fast as float32.

Products of wide matrices are nearly all of the time that reading takes. A bfloat16 has 8 significant bits,
but a similarity is a sum over hundreds of features: it differs by less than .01 from that of full precision.
Rounding makes an exact symmetry of either.
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.network.graph import Graph
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.network.strengths import Matrix, Strengths
from deepalign_cli.processor import multiplies_halves

_WIDE = 128  # units of a group: in smaller networks the products are not what takes the time
_MOST_KEPT = 2**25  # entries of a network, whose halves are kept


def reads_in_halves(graph: Graph, strengths: Strengths) -> bool:
    """Whether a network is to be read in bfloat16: a wide one in float32, and nothing is to be learned."""
    like = next(iter(strengths.drive.values()))
    return not torch.is_grad_enabled() and _is_worthwhile(like, max(graph.symmetry.sizes.values()))


def in_halves_if_wide(w: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """A factor of a product of wide matrices, in bfloat16 where that is fast; else as it is."""
    return w.bfloat16() if _is_worthwhile(w, len(w)) else w


def _is_worthwhile(like: Tensor, units: int) -> bool:
    on_cpu = like.dtype is torch.float32 and like.device.type == "cpu"
    return on_cpu and units >= _WIDE and multiplies_halves()


def halved(strengths: Strengths) -> Strengths:
    """The same in bfloat16. The scales were computed in full precision."""
    count = sum(matrix.down.shape[1] * matrix.up.shape[1] for matrix in strengths.matrices.values())
    entries = Lazy(
        strengths.matrices, lambda i: strengths.matrices[i].w.bfloat16(), keeps=count <= _MOST_KEPT
    )
    matrices = {
        i: Matrix(
            functools.partial(entries.__getitem__, i), m.down.bfloat16(), m.pull.bfloat16(), m.up.bfloat16()
        )
        for i, m in strengths.matrices.items()
    }
    drive, importance, vectors = (
        {g: x.bfloat16() for g, x in found.items()}
        for found in (strengths.drive, strengths.importance, strengths.vectors)
    )
    return Strengths(matrices, drive, importance, vectors)
