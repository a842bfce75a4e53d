"""Small reference networks, in the naming styles that checkpoints in the wild use.

Every factory returns a plain `nn.Module` with small default widths. `ALL` lists one or more of each for
parametrised tests; `randomise_` makes every parameter and buffer generic, so that no test passes because of
a symmetry that a fresh initialisation happens to have (zero biases, unit gammas, zero running means).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["batch", "layer"] | None


class Sin(nn.Module):
    """The sine as a module: an odd activation, so that its units have a sign symmetry."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sin": Sin,
}


def randomise_(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Give every parameter and buffer of `module` a generic value, in place, and return it.

    Weights are Gaussian with variance 1 / fan-in; norms' gammas lie around 1; running variances are positive;
    biases, running means and free parameters (`pos`, `cls`) are Gaussian. Values are drawn in float64, so a
    seed means the same network in every dtype.
    """
    with torch.no_grad():
        for owner in module.modules():
            norm = isinstance(owner, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm)
            named = [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]
            for name, tensor in named:
                tensor.copy_(_generic(name, tensor, norm, generator))
    return module


def _generic(name: str, tensor: Tensor, norm: bool, generator: torch.Generator) -> Tensor:
    """A generic value for one tensor, by what it is for."""
    if not tensor.is_floating_point():
        return torch.randint(1, 1000, tensor.shape, generator=generator)
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    if name == "running_var":
        return 0.5 + noise.abs()
    if norm and name == "weight":
        return 1 + 0.2 * noise
    if name.endswith("weight") and tensor.ndim >= 2:
        return noise / math.sqrt(tensor[0].numel())
    return 0.3 * noise


# --- multilayer perceptrons ---------------------------------------------------------------------------------


def mlp(
    sizes: Sequence[int] = (12, 16, 20, 16, 5), activation: str = "relu", norm: Norm = None
) -> nn.Sequential:
    """An `nn.Sequential` of Linear, norm (if any) and activation: names are bare numbers, `0.weight`, ..."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers.append(nn.Linear(n_in, n_out))
        if norm is not None:
            layers.append(nn.BatchNorm1d(n_out) if norm == "batch" else nn.LayerNorm(n_out))
        layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def mlp_batchnorm(sizes: Sequence[int] = (12, 16, 20, 5), activation: str = "relu") -> nn.Sequential:
    """`mlp` with a BatchNorm1d behind every hidden Linear."""
    return mlp(sizes, activation, norm="batch")


def mlp_layernorm(sizes: Sequence[int] = (12, 16, 20, 5), activation: str = "relu") -> nn.Sequential:
    """`mlp` with a LayerNorm behind every hidden Linear: units permute, but no longer rescale one by one."""
    return mlp(sizes, activation, norm="layer")


def tanh_mlp(sizes: Sequence[int] = (10, 64, 64, 64, 5)) -> nn.Sequential:
    """The tanh MLP of the signed-matching test."""
    return mlp(sizes, "tanh")


class NamedMLP(nn.Module):
    """Linear layers called `fc1`, `fc2`, ... with one activation between them."""

    def __init__(self, sizes: Sequence[int], activation: str) -> None:
        super().__init__()
        self.names = [f"fc{i}" for i in range(1, len(sizes))]
        for name, (n_in, n_out) in zip(self.names, pairwise(sizes), strict=True):
            self.add_module(name, nn.Linear(n_in, n_out))
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names[:-1]:
            x = self.activation(self.get_submodule(name)(x))
        out: Tensor = self.get_submodule(self.names[-1])(x)
        return out


def named_mlp(sizes: Sequence[int] = (12, 16, 20, 5), activation: str = "relu") -> NamedMLP:
    """`fc1` ... `fcN`."""
    return NamedMLP(sizes, activation)


class SineLayer(nn.Linear):
    """`sin(w0 * (W x + b))` with SIREN's initialisation."""

    def __init__(self, n_in: int, n_out: int, w0: float, first: bool) -> None:
        super().__init__(n_in, n_out)
        self.w0 = w0
        bound = 1 / n_in if first else (6 / n_in) ** 0.5 / w0
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.w0 * super().forward(x))


class Siren(nn.Module):
    """An implicit neural representation; layers are `seq.0`, `seq.1`, ... as in the DWSNets data sets."""

    def __init__(self, sizes: Sequence[int], w0: float) -> None:
        super().__init__()
        hidden = [SineLayer(a, b, w0, first=i == 0) for i, (a, b) in enumerate(pairwise(sizes[:-1]))]
        self.seq = nn.Sequential(*hidden, nn.Linear(sizes[-2], sizes[-1]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.seq(x)
        return out


def siren(sizes: Sequence[int] = (2, 32, 32, 1), w0: float = 30.0) -> Siren:
    """Coordinates in, values out. A large `w0` amplifies rounding: float64 tests use a smaller one."""
    return Siren(sizes, w0)


# --- convolutional chains -----------------------------------------------------------------------------------


class PlainCNN(nn.Module):
    """`conv1`, (`bn1`), ReLU, max-pool, `conv2`, ...; then flatten, `fc1`, `fc2`, or mean-pool, `fc`."""

    def __init__(
        self, channels: Sequence[int], norm: bool, bias: bool, hidden: int | None, size: int, classes: int
    ) -> None:
        super().__init__()
        self.depth = len(channels) - 1
        for i, (c_in, c_out) in enumerate(pairwise(channels), 1):
            self.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias))
            if norm:
                self.add_module(f"bn{i}", nn.BatchNorm2d(c_out))
        self.norm = norm
        self.flat = hidden is not None
        if hidden is None:
            self.fc = nn.Linear(channels[-1], classes)
        else:
            side = size // 2**self.depth
            self.fc1 = nn.Linear(channels[-1] * side * side, hidden)
            self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.depth + 1):
            x = self.get_submodule(f"conv{i}")(x)
            if self.norm:
                x = self.get_submodule(f"bn{i}")(x)
            x = functional.max_pool2d(functional.relu(x), 2)
        out: Tensor = (
            self.fc2(functional.relu(self.fc1(x.flatten(1)))) if self.flat else self.fc(x.mean((2, 3)))
        )
        return out


def plain_cnn(
    channels: Sequence[int] = (3, 8, 12),
    hidden: int = 20,
    size: int = 16,
    classes: int = 10,
    norm: bool = False,
    bias: bool = True,
) -> PlainCNN:
    """Conv -> flatten -> fully connected: `fc1` reads (size / 2^depth)^2 entries a channel."""
    return PlainCNN(channels, norm, bias, hidden, size, classes)


def cnn_gap(
    channels: Sequence[int] = (3, 8, 12, 16), classes: int = 10, norm: bool = True, bias: bool = False
) -> PlainCNN:
    """Conv -> global average pool -> `fc`: one entry a channel."""
    return PlainCNN(channels, norm, bias, None, 0, classes)


class VGG(nn.Module):
    """torchvision's VGG: `features.N`, adaptive pool, `classifier.0`, `.3`, `.6` with dropout between."""

    def __init__(
        self, plan: Sequence[int | Literal["M"]], norm: bool, hidden: int, pool: int, classes: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for entry in plan:
            if entry == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers.append(nn.Conv2d(channels, entry, 3, padding=1))
            layers.extend([nn.BatchNorm2d(entry)] if norm else [])
            layers.append(nn.ReLU())
            channels = entry
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((pool, pool))
        self.classifier = nn.Sequential(
            nn.Linear(channels * pool * pool, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return out


def vgg(
    plan: Sequence[int | Literal["M"]] = (8, "M", 12, "M", 16, 16, "M"),
    norm: bool = False,
    hidden: int = 20,
    pool: int = 2,
    classes: int = 10,
) -> VGG:
    """VGG with torchvision's names; `plan` as torchvision's `cfgs`, "M" for a max-pool."""
    return VGG(plan, norm, hidden, pool, classes)


# --- residual networks --------------------------------------------------------------------------------------


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)


def conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """torchvision's basic block."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = conv3x3(c_in, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + skip)


class Bottleneck(nn.Module):
    """torchvision's bottleneck block, the stride in its 3x3 convolution."""

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = conv1x1(c_in, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, width * self.expansion)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + skip)


class ResNet(nn.Module):
    """torchvision's ResNet: 7x7 stem with max-pool, `layer1` ... `layerN`, global average pool, `fc`."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        widths: Sequence[int],
        blocks: Sequence[int],
        classes: int,
    ) -> None:
        super().__init__()
        channels = widths[0]
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.stages = len(widths)
        for i, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
            stage: list[nn.Module] = []
            for j in range(count):
                stride, c_out = (2 if i > 1 and j == 0 else 1), width * block.expansion
                down: nn.Module | None = None
                if stride != 1 or channels != c_out:
                    down = nn.Sequential(conv1x1(channels, c_out, stride), nn.BatchNorm2d(c_out))
                stage.append(block(channels, width, stride, down))
                channels = c_out
            self.add_module(f"layer{i}", nn.Sequential(*stage))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for i in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{i}")(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


def resnet(
    block: Literal["basic", "bottleneck"] = "basic",
    widths: Sequence[int] = (8, 12, 16, 20),
    blocks: Sequence[int] = (2, 2, 1, 1),
    classes: int = 10,
) -> ResNet:
    """torchvision names: `conv1`, `bn1`, `layer{1-4}.{i}.conv/bn`, `downsample.0/.1`, `fc`."""
    return ResNet(BasicBlock if block == "basic" else Bottleneck, widths, blocks, classes)


class PadShortcut(nn.Module):
    """Option A: every second pixel, and `pad` zero channels on both sides. No parameters."""

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class CifarBlock(nn.Module):
    """The basic block of the CIFAR-10 repositories: `shortcut` is empty, a projection or a zero padding."""

    def __init__(self, c_in: int, width: int, stride: int, option: Literal["A", "B"]) -> None:
        super().__init__()
        self.conv1 = conv3x3(c_in, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Sequential()
        if (stride != 1 or c_in != width) and option == "A":
            self.shortcut = PadShortcut(width // 4)
        elif stride != 1 or c_in != width:
            self.shortcut = nn.Sequential(conv1x1(c_in, width, stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class PreActBlock(nn.Module):
    """kuangliu's pre-activation block: the norm comes first, and the shortcut (if any) reads its output."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = conv3x3(c_in, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.projects = stride != 1 or c_in != width
        if self.projects:
            self.shortcut = nn.Sequential(conv1x1(c_in, width, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(x))
        skip = self.shortcut(out) if self.projects else x
        out = self.conv2(functional.relu(self.bn2(self.conv1(out))))
        total: Tensor = out + skip
        return total


class CifarResNet(nn.Module):
    """3x3 stem `conv1`, `bn1`; three stages; global average pool; `linear`."""

    def __init__(
        self, widths: Sequence[int], blocks: Sequence[int], option: Literal["A", "B"], classes: int
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = _stages(self, widths, blocks, lambda c, w, s: CifarBlock(c, w, s, option))
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        out: Tensor = self.linear(x.mean((2, 3)))
        return out


class PreActResNet(nn.Module):
    """No norm behind the stem; a final `bn` before the pool."""

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], classes: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, widths[0])
        self.stages = _stages(self, widths, blocks, PreActBlock)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        out: Tensor = self.linear(functional.relu(self.bn(x)).mean((2, 3)))
        return out


def _stages(
    net: nn.Module,
    widths: Sequence[int],
    blocks: Sequence[int],
    make: Callable[[int, int, int], nn.Module],
) -> list[str]:
    """Add `layer1` ... `layerN` to `net`, halving the image at each but the first; their names."""
    channels, names = widths[0], []
    for i, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
        stage = [make(channels, width, 2 if i > 1 else 1)]
        stage += [make(width, width, 1) for _ in range(count - 1)]
        net.add_module(f"layer{i}", nn.Sequential(*stage))
        names.append(f"layer{i}")
        channels = width
    return names


def cifar_resnet(
    widths: Sequence[int] = (8, 12, 16), blocks: Sequence[int] = (2, 2, 1), classes: int = 10
) -> CifarResNet:
    """CIFAR names: `layer{1-3}.{i}.conv1 ...`, projections at `shortcut.0/.1`, `linear`."""
    return CifarResNet(widths, blocks, "B", classes)


def resnet_option_a(
    widths: Sequence[int] = (8, 16, 32), blocks: Sequence[int] = (2, 2, 1), classes: int = 10
) -> CifarResNet:
    """akamaster's ResNet20 style: where widths double, the identity is padded with zeros on both sides."""
    return CifarResNet(widths, blocks, "A", classes)


def preact_resnet(
    widths: Sequence[int] = (8, 12, 16), blocks: Sequence[int] = (2, 2, 1), classes: int = 10
) -> PreActResNet:
    """kuangliu's names: `layerX.i.bn1, conv1, bn2, conv2`, `shortcut.0`; plus a final `bn`; `linear`."""
    return PreActResNet(widths, blocks, classes)


# --- transformers -------------------------------------------------------------------------------------------


class TransformerClassifier(nn.Module):
    """`embed`, `cls`, `pos`, `nn.TransformerEncoder` at `encoder`, `norm`, `head` on the class token."""

    def __init__(
        self,
        embed: nn.Linear | nn.Conv2d,
        tokens: int,
        heads: int,
        ff: int,
        layers: int,
        activation: Literal["relu", "gelu"],
        norm_first: bool,
        classes: int,
    ) -> None:
        super().__init__()
        width = embed.weight.shape[0]
        self.embed = embed
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos = nn.Parameter(0.02 * torch.randn(1, tokens + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, ff, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        if isinstance(self.embed, nn.Conv2d):
            x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        out: Tensor = self.head(self.norm(self.encoder(x))[:, 0])
        return out


def transformer_classifier(
    d_model: int = 16,
    heads: int = 4,
    ff: int = 24,
    layers: int = 2,
    activation: Literal["relu", "gelu"] = "relu",
    norm_first: bool = True,
    features: int = 6,
    tokens: int = 5,
    classes: int = 10,
) -> TransformerClassifier:
    """Reads `tokens` vectors of `features` numbers through a Linear `embed`."""
    embed = nn.Linear(features, d_model)
    return TransformerClassifier(embed, tokens, heads, ff, layers, activation, norm_first, classes)


def vision_transformer(
    d_model: int = 16,
    heads: int = 4,
    ff: int = 24,
    layers: int = 2,
    activation: Literal["relu", "gelu"] = "gelu",
    norm_first: bool = True,
    patch: int = 4,
    size: int = 16,
    classes: int = 10,
) -> TransformerClassifier:
    """Reads RGB images through a Conv2d `embed`, one token a patch."""
    embed = nn.Conv2d(3, d_model, patch, stride=patch)
    tokens = (size // patch) ** 2
    return TransformerClassifier(embed, tokens, heads, ff, layers, activation, norm_first, classes)


# --- one of each --------------------------------------------------------------------------------------------

_IMAGE = (3, 16, 16)

ALL: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "mlp": lambda: (mlp(), (12,)),
    "mlp_leaky_relu": lambda: (mlp(activation="leaky_relu"), (12,)),
    "mlp_gelu": lambda: (mlp(activation="gelu"), (12,)),
    "named_mlp": lambda: (named_mlp(), (12,)),
    "mlp_batchnorm": lambda: (mlp_batchnorm(), (12,)),
    "mlp_layernorm": lambda: (mlp_layernorm(), (12,)),
    "tanh_mlp": lambda: (tanh_mlp(), (10,)),
    "siren": lambda: (siren(w0=3.0), (2,)),
    "plain_cnn": lambda: (plain_cnn(), _IMAGE),
    "plain_cnn_bn": lambda: (plain_cnn(norm=True, bias=False), _IMAGE),
    "cnn_gap": lambda: (cnn_gap(), _IMAGE),
    "vgg": lambda: (vgg(), _IMAGE),
    "vgg_bn": lambda: (vgg(norm=True), _IMAGE),
    "resnet_basic": lambda: (resnet("basic"), (3, 32, 32)),
    "resnet_bottleneck": lambda: (resnet("bottleneck", (4, 6, 8, 8), (2, 1, 1, 1)), (3, 32, 32)),
    "cifar_resnet": lambda: (cifar_resnet(), _IMAGE),
    "preact_resnet": lambda: (preact_resnet(), _IMAGE),
    "resnet_option_a": lambda: (resnet_option_a(), _IMAGE),
    "transformer_prenorm": lambda: (transformer_classifier(norm_first=True), (5, 6)),
    "transformer_postnorm": lambda: (transformer_classifier(norm_first=False), (5, 6)),
    "vision_transformer": lambda: (vision_transformer(), _IMAGE),
}
"""Name -> (module, shape of one example without its batch axis). Call `.eval()` before comparing outputs."""
