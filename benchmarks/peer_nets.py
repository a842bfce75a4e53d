"""The networks of the comparison with other tools, and plain loops to judge a merge with.

Everything here is written out in ordinary torch and uses nothing of `deepalign_cli`, so that it can check it:
`build` rebuilds a network by name, `load_data` reads MNIST, `loss_accuracy`, `reestimate_bn` and `barrier`
evaluate. `train_peers.py` trains the networks; a checkpoint's metadata holds the name to rebuild it with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Weights = Mapping[str, Tensor]
MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels / 255


# --- networks: each reads images [batch, 1, 28, 28] ---------------------------------------------------------


class MLP(nn.Module):
    """`fc1`, ReLU, `fc2`, ... on flattened images."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        for i, (n_in, n_out) in enumerate(pairwise(sizes), 1):
            self.add_module(f"fc{i}", nn.Linear(n_in, n_out))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        layers = list(self.children())
        for layer in layers[:-1]:
            x = functional.relu(layer(x))
        out: Tensor = layers[-1](x)
        return out


class CNN(nn.Module):
    """Three times conv 3x3, (BatchNorm), ReLU, max-pool; 64 x 3 x 3 flattened; then one or two `fc`."""

    def __init__(
        self, channels: tuple[int, ...] = (1, 32, 64, 64), norm: bool = True, hidden: int = 0
    ) -> None:
        super().__init__()
        self.depth = len(channels) - 1
        self.norm = norm
        for i, (c_in, c_out) in enumerate(pairwise(channels), 1):
            self.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, 3, padding=1, bias=not norm))
            if norm:
                self.add_module(f"bn{i}", nn.BatchNorm2d(c_out))
        flat = channels[-1] * 3 * 3
        self.fc1 = nn.Linear(flat, hidden or 10)
        self.fc2 = nn.Linear(hidden, 10) if hidden else None

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.depth + 1):
            x = self.get_submodule(f"conv{i}")(x)
            if self.norm:
                x = self.get_submodule(f"bn{i}")(x)
            x = functional.max_pool2d(functional.relu(x), 2)
        x = self.fc1(x.flatten(1))
        return x if self.fc2 is None else self.fc2(functional.relu(x))


class Block(nn.Module):
    """torchvision's basic block."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or c_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + skip)


class ResNet(nn.Module):
    """torchvision's names; a 3x3 stem of stride 2, three stages of two blocks, mean-pool, `fc`."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64), blocks: int = 2) -> None:
        super().__init__()
        channels = widths[0]
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.stages = len(widths)
        for i, width in enumerate(widths, 1):
            stage = [Block(channels, width, 2 if i > 1 else 1)]
            stage += [Block(width, width, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{i}", nn.Sequential(*stage))
            channels = width
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for i in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{i}")(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


NETS: dict[str, Callable[[], nn.Module]] = {
    "mlp128": lambda: MLP(784, 128, 128, 10),
    "mlp512": lambda: MLP(784, 512, 512, 512, 10),
    "cnn_bn": lambda: CNN(norm=True),
    "resnet_bn": lambda: ResNet(),
    "cnn": lambda: CNN(norm=False, hidden=128),
    "resnet32_bn": lambda: ResNet((32, 64, 128)),
}


def build(name: str) -> nn.Module:
    """The network of that name, freshly initialised from torch's global generator."""
    if name not in NETS:
        raise ValueError(f"no network {name!r}; there are {', '.join(NETS)}")
    return NETS[name]()


# --- data and evaluation ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Normalised images [n, 1, 28, 28] and their labels."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_data(path: Path, n_train: int = 8000, n_test: int = 2000) -> Data:
    """`n_train` and `n_test` evenly spaced images of an `.npz` with `{train,test}_{images,labels}`.

    Evenly spaced, because MNIST's test images are not in random order: the first half is the harder one.
    """

    def every(array: np.ndarray, n: int) -> Tensor:
        if n > len(array):
            raise ValueError(f"{path} has {len(array)} images, {n} were asked for")
        return torch.from_numpy(array[:: len(array) // n][:n])

    def normalised(images: Tensor) -> Tensor:
        return (images.float().unsqueeze(1) / 255 - MEAN) / STD

    with np.load(path) as npz:
        return Data(
            train_x=normalised(every(npz["train_images"], n_train)),
            train_y=every(npz["train_labels"], n_train),
            test_x=normalised(every(npz["test_images"], n_test)),
            test_y=every(npz["test_labels"], n_test),
        )


@torch.no_grad()
def loss_accuracy(net: nn.Module, x: Tensor, y: Tensor, batch: int = 500) -> tuple[float, float]:
    """Mean cross-entropy and accuracy, in evaluation mode."""
    net.eval()
    loss, right = 0.0, 0
    for rows_x, rows_y in zip(torch.split(x, batch), torch.split(y, batch), strict=True):
        logits = net(rows_x)
        loss += float(functional.cross_entropy(logits, rows_y, reduction="sum"))
        right += int((logits.argmax(1) == rows_y).sum())
    return loss / len(x), right / len(x)


def loss_accuracy_of(name: str, weights: Weights, x: Tensor, y: Tensor) -> tuple[float, float]:
    """`loss_accuracy` of a state dict of network `name`."""
    net = build(name)
    net.load_state_dict(weights)
    return loss_accuracy(net, x, y)


@torch.no_grad()
def reestimate_bn(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace every BatchNorm's running statistics by their plain mean over `batches`, in place."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way to ask for a cumulative mean
    net.train()
    for x in batches:
        net(x)
    net.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@dataclass(frozen=True)
class Curve:
    """Test loss and accuracy along the straight line from `a` (alpha 0) to `b` (alpha 1)."""

    alphas: list[float]
    loss: list[float]
    accuracy: list[float]

    @property
    def excess(self) -> list[float]:
        """Loss above the straight line between the two ends' losses."""
        first, last = self.loss[0], self.loss[-1]
        return [y - ((1 - t) * first + t * last) for t, y in zip(self.alphas, self.loss, strict=True)]

    @property
    def barrier(self) -> float:
        return max(0.0, *self.excess)

    @property
    def auc(self) -> float:
        """Integral of the excess, not clipped."""
        return float(np.trapezoid(self.excess, self.alphas))

    @property
    def midpoint_accuracy(self) -> float:
        return self.accuracy[len(self.accuracy) // 2]


def interpolate(a: Weights, b: Weights, alpha: float) -> dict[str, Tensor]:
    """`(1 - alpha) a + alpha b`; integer buffers come from `a`."""
    return {
        name: (1 - alpha) * x + alpha * b[name] if x.is_floating_point() else x.clone()
        for name, x in a.items()
    }


def barrier(
    module_factory: Callable[[], nn.Module],
    a: Weights,
    b: Weights,
    data: Data,
    alphas: int = 25,
    repair_bn: bool = False,
    repair_images: int = 2000,
) -> Curve:
    """The curve over `alphas` (odd, so that 0.5 is one of them) evenly spaced points, both ends included.

    With `repair_bn`, BatchNorm statistics are re-estimated on training images at every point, both ends too.
    """
    if alphas < 3 or alphas % 2 == 0:
        raise ValueError(f"alphas must be odd and at least 3, so that the midpoint is a point; got {alphas}")
    net = module_factory()
    grid = [i / (alphas - 1) for i in range(alphas)]
    points = []
    for alpha in grid:
        net.load_state_dict(interpolate(a, b, alpha))
        if repair_bn:
            reestimate_bn(net, torch.split(data.train_x[:repair_images], 500))
        points.append(loss_accuracy(net, data.test_x, data.test_y))
    return Curve(grid, [loss for loss, _ in points], [accuracy for _, accuracy in points])
