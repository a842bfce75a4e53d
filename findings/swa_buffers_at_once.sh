#!/usr/bin/env bash
# torch 2.13.0: AveragedModel cannot average the buffers of a network with BatchNorm by torch's own averaging of many tensors.
#
# Expected: get_swa_multi_avg_fn() is the default's mean, taken of all tensors at once, so that with use_buffers=True, too, both
# give the same network. get_ema_multi_avg_fn() does what get_ema_avg_fn() does in this case.
# Seen: with get_swa_multi_avg_fn() the second update raises "Integer division with addcdiv is no longer supported", since
# BatchNorm counts its batches in an integer. The default and both moving averages take the same network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.optim import swa_utils


def averaged(**how) -> nn.Module:
    """The average of a network's states after five batches of each of three means."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    mean = swa_utils.AveragedModel(network, use_buffers=True, **how)
    for shift in range(3):
        for _ in range(5):
            network(torch.randn(16, 4) + shift)
        mean.update_parameters(network)
    return mean.module


print(f"torch {torch.__version__}: the default's running mean {averaged()[1].running_mean.tolist()}")
one_by_one = averaged(avg_fn=swa_utils.get_ema_avg_fn(0.5))
at_once = averaged(multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
assert torch.allclose(one_by_one[1].running_mean, at_once[1].running_mean), "the moving averages differ"
try:
    averaged(multi_avg_fn=swa_utils.get_swa_multi_avg_fn())
except RuntimeError as error:
    print(f"get_swa_multi_avg_fn: {str(error)[:55]}")
    assert "addcdiv" in str(error), "it fails in another way"
else:
    raise AssertionError("get_swa_multi_avg_fn takes integer buffers now")
PYTHON
