#!/usr/bin/env bash
# tensorizer 2.12.1 with torch 2.13.0: a network that was written and loaded trains other tensors than before, or none at all.
#
# Expected: load_into_module fills a fresh network with what write_module wrote of one of the same class, so that the two have
# the same state dict and the same parameters to train.
# Seen: values are equal. Running statistics of BatchNorm come back asking for gradients, so that a batch in training mode raises;
# parameters that were frozen on both sides are trained again; a buffer that is not persistent is in the state dict, which a
# fresh network then refuses; and a tied weight is two.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorizer==2.12.1 torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from tensorizer import TensorDeserializer, TensorSerializer
from torch import nn


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm, self.head = nn.Embedding(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 5)
        self.head.weight = self.embedding.weight
        self.head.bias.requires_grad_(False)
        self.head.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.embedding(tokens))) * self.head.scale


def fails(function) -> str:
    try:
        function()
    except RuntimeError as error:
        return str(error)
    return ""


def trained(network: nn.Module) -> list[str]:
    return [name for name, tensor in network.named_parameters() if tensor.requires_grad]


network, loaded, tokens = Network(), Network(), torch.arange(5)
writer = TensorSerializer("network.tensors")
writer.write_module(network)
writer.close()
with TensorDeserializer("network.tensors", device="cpu") as reader:
    reader.load_into_module(loaded)

assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items()), "values differ"
print(f"trained before {trained(network)}, after {trained(loaded)}")
assert trained(network) == ["embedding.weight", "norm.weight", "norm.bias"], "another network"
assert "head.bias" in trained(loaded) and "head.weight" in trained(loaded), "frozen and tied weights are kept now"
assert loaded.norm.running_mean.requires_grad and not network.norm.running_mean.requires_grad, "statistics are kept now"
raised = fails(lambda: loaded.train()(tokens))
print(f"a batch in training mode: {raised[:74]}")
assert not fails(lambda: network.train()(tokens)) and "running_mean" in raised, "training works now"
refused = fails(lambda: Network().load_state_dict(loaded.state_dict()))
print(f"a fresh network: {' '.join(refused.split())[:80]}")
assert "head.scale" in refused, "the state dict is kept now"
PYTHON
