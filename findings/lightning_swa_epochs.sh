#!/usr/bin/env bash
# lightning 2.6.6 with torch 2.13.0: StochasticWeightAveraging leaves the last epoch out, and with BatchNorm steps on from the mean.
#
# Expected: with swa_epoch_start=2 and four epochs the network ends as the mean of its states after epochs 2, 3 and 4, as by
# torch's AveragedModel, whose scheme the documentation says it follows. A weight that grows by 1 an epoch: 3.
# Seen: 2, the mean after epochs 1, 2 and 3: states are taken before each epoch. With swa_epoch_start=4 the fourth epoch is
# trained and thrown away. A network with a BatchNorm layer ends at 2.5: once more through the data for its statistics, and
# at the end of that the optimizer steps along the old gradient of the last batch, so that the network is no mean at all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightning==2.6.6 torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging

import lightning
import torch
from lightning.pytorch.callbacks import Callback, StochasticWeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


class Growing(lightning.LightningModule):
    """A weight whose gradient is always -1: half a step, twice an epoch."""

    def __init__(self, has_norm: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.norm = nn.BatchNorm1d(1) if has_norm else nn.Identity()

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.norm(batch)
        return -self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class AfterEachEpoch(Callback):
    """torch's own mean of the same epochs."""

    def __init__(self, start: int, network: nn.Module) -> None:
        self.start, self.mean = start, AveragedModel(network)

    def on_train_epoch_end(self, trainer: lightning.Trainer, network: nn.Module) -> None:
        if self.start - 1 <= trainer.current_epoch < 4:
            self.mean.update_parameters(network)


def trained(start: int, has_norm: bool) -> tuple[float, float]:
    """The weight at the end, and torch's mean."""
    network = Growing(has_norm)
    mean = AfterEachEpoch(start, network)
    average = StochasticWeightAveraging(swa_lrs=0.5, swa_epoch_start=start)
    trainer = lightning.Trainer(max_epochs=4, accelerator="cpu", callbacks=[average, mean], **QUIET)
    trainer.fit(network, DataLoader(torch.randn(8, 1), batch_size=4))
    return network.weight.item(), mean.mean.module.weight.item()


plain, normed, late = trained(2, False), trained(2, True), trained(4, False)
print(f"lightning {lightning.__version__}, its mean and torch's: {plain}, with BatchNorm {normed}, of the last epoch {late}")
assert plain[1] == normed[1] == 3 and late[1] == 4, "torch's mean has changed"
assert plain[0] == 2 and late[0] == 3, "the epochs of the mean have changed"
assert normed[0] == 2.5, "no step follows the mean any longer"
PYTHON
