#!/usr/bin/env bash
# torch-pruning 1.6.1 with torch 2.13.0: a channel that is flattened last is cut out of the wrong columns of the linear layer.
#
# Expected: a channel whose weights are all zero can be pruned without a change of the outputs, or the group is refused.
# Seen: exact to rounding where the image is flattened channels first, and where a linear layer reads the channels in place. After
# permute(0, 2, 3, 1), as networks of Keras have it, columns that belong to other channels are dropped: the shapes fit, nothing
# is raised, and outputs move by as much as their size.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch-pruning==1.6.1 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torch_pruning
from torch import nn


class Network(nn.Module):
    """A convolution, and a linear layer that reads it in one of three orders."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.conv, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 if order == "in place" else 8 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(x).relu()
        hidden = hidden if self.order == "first" else hidden.permute(0, 2, 3, 1)
        return self.linear(hidden if self.order == "in place" else hidden.flatten(1))


def change(order: str) -> float:
    """How far outputs move when a dead channel is pruned, over their size."""
    torch.manual_seed(0)
    network, x = Network(order).double(), torch.randn(4, 3, 4, 4, dtype=torch.float64)
    network.conv.weight.data[2] = network.conv.bias.data[2] = 0
    before = network(x).detach()
    graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=x)
    graph.get_pruning_group(network.conv, torch_pruning.prune_conv_out_channels, idxs=[2]).prune()
    return float((network(x).detach() - before).norm() / before.norm())


changes = {order: change(order) for order in ("first", "in place", "last")}
print(f"torch {torch.__version__}: {({order: f'{value:.1e}' for order, value in changes.items()})}")
assert changes["first"] < 1e-12 and changes["in place"] < 1e-12, "the other orders have changed"
assert changes["last"] > 0.1, "the right columns are dropped now"
PYTHON
