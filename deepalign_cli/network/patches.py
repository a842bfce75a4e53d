"""What the units of convolutional networks say when these are run on learned patches of images.

A patch is as large as one unit of the last convolution sees it, and kernels move over it by `stride`, without
padding: what is said is what the network itself would say in the middle of an image, if it moves its kernels
by that stride. Units have functions that commute with what they may do, as in `probes.py`. A unit of an
earlier layer is read by its mean over the places where it stands.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, unfold

from deepalign_cli.network.blueprint import Blueprint, Link
from deepalign_cli.network.probes import Nodes, biases_of
from deepalign_cli.network.scale_blocks import commuting
from deepalign_cli.symmetry.symmetry import Weights

_COARSE = 4  # pixels a side of what a fresh patch is enlarged from: images are smooth


class Patches(nn.Module):
    """Stacked weights -> what every unit and every output says of `count` learned patches.

    Raises:
        ValueError: it is no chain of two-dimensional convolutions and linear layers.
    """

    def __init__(
        self, blueprint: Blueprint, count: int, stride: int, frequency: float, *, tanh: bool = False
    ) -> None:
        super().__init__()
        self.blueprint, self.stride, self.frequency, self.tanh = blueprint, stride, frequency, tanh
        links = blueprint.links
        if any(len(link.edge.grid) not in (0, 2) for link in links) or not _is_chain(links):
            raise ValueError("stride above 0 is for chains of two-dimensional convolutions and linear layers")
        side = 1
        for link in reversed(links):
            side = (side - 1) * stride + max(link.edge.grid) if link.edge.grid else side
        coarse = torch.randn(count, links[0].edge.sizes[1], _COARSE, _COARSE)
        smooth = interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
        self.patches = nn.Parameter(smooth / smooth.std() + 0.1 * torch.randn(smooth.shape))

    def forward(self, weights: Weights) -> Nodes:
        said, x = dict[str, Tensor](), self.patches.unsqueeze(0)
        for link in self.blueprint.links:
            before = self._moved(x, link, weights)
            x = self._heard(link.target, before)
            said[link.target] = x.flatten(3).mean(3).transpose(1, 2)
        return said

    def _moved(
        self, x: Float[Tensor, "_ count source side side"], link: Link, weights: Weights
    ) -> Float[Tensor, "networks count target less less"]:
        e, kernel = self.blueprint.matrix(link, weights), link.edge.grid or (1, 1)
        stride = self.stride if link.edge.grid else 1
        side = (x.shape[-1] - kernel[0]) // stride + 1
        windows = unfold(x.flatten(0, 1), kernel, stride=stride)
        said = e.flatten(2).unsqueeze(1) @ windows.reshape(*x.shape[:2], *windows.shape[1:])
        said = said + biases_of(self.blueprint, link.target, weights).unsqueeze(1)
        return said.reshape(*said.shape[:3], side, -1)

    def _heard(
        self, node: str, x: Float[Tensor, "*batch n side side"]
    ) -> Float[Tensor, "*batch n side side"]:
        if node in self.blueprint.labels:
            return x
        return commuting(self.blueprint.kind(node), x, self.frequency, tanh=self.tanh)


def _is_chain(links: tuple[Link, ...]) -> bool:
    return all(a.target == b.source for a, b in pairwise(links))
