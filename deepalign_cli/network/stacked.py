"""One network as encoders read it: a stack of one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.network.graph import Graph
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import widened


def stacked(graph: Graph, weights: Weights) -> Mapping[str, Float[Tensor, "1 ..."]]:
    """What the network reads of one network, in one type, with a batch axis."""
    dtypes = (widened(weights[name]).dtype for name in graph.names)
    dtype = max(dtypes, key=lambda d: d.itemsize, default=torch.float32)
    return Lazy(graph.names, lambda name: widened(weights[name]).to(dtype).unsqueeze(0))
