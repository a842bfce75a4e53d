"""Small networks that names and shapes do not tell: LSTM, U-Net, MobileNet-like, DenseNet-like, ViT."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Lstm(nn.Module):
    """An image read row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(28, 64, 2, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.flatten(1).unflatten(1, (28, 28)))[0][:, -1])


def double(into: int, out: int) -> nn.Sequential:
    """Two convolutions."""
    layers: list[nn.Module] = []
    for n in (into, out):
        layers += [nn.Conv2d(n, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """A denoiser: what goes in is the image and noise of the image's own (see `noisy`)."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = double(1, 12), double(12, 24), double(24, 48)
        self.up2, self.join2 = nn.ConvTranspose2d(48, 24, 2, 2), double(48, 24)
        self.up1, self.join1 = nn.ConvTranspose2d(24, 12, 2, 2), double(24, 12)
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        y = self.middle(functional.max_pool2d(second, 2))
        y = self.join2(torch.cat([self.up2(y), second], 1))
        return self.out(self.join1(torch.cat([self.up1(y), first], 1)))


class Inverted(nn.Module):
    """An inverted residual block with squeeze-and-excitation."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        inner = 4 * into
        self.expand = nn.Sequential(nn.Conv2d(into, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6())
        depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.depthwise = nn.Sequential(depthwise, nn.BatchNorm2d(inner), nn.ReLU6())
        self.squeeze, self.excite = nn.Conv2d(inner, into // 2, 1), nn.Conv2d(into // 2, inner, 1)
        self.project = nn.Sequential(nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out))
        self.skips = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        gate = self.excite(functional.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        y = self.project(y * torch.sigmoid(gate))
        return x + y if self.skips else y


class Mobile(nn.Module):
    """MobileNet-like."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(*(Inverted(*sizes) for sizes in ((16, 16, 1), (16, 24, 2), (24, 24, 1))))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Dense(nn.Module):
    """DenseNet-like: every layer reads all before it."""

    def __init__(self, growth: int = 12, layers: int = 4) -> None:
        super().__init__()
        self.stem, width = nn.Conv2d(1, 24, 3, 2, 1, bias=False), 24
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        for _ in range(layers):
            self.norms.append(nn.BatchNorm2d(width))
            self.convs.append(nn.Conv2d(width, growth, 3, padding=1, bias=False))
            width += growth
        self.last, self.head = nn.BatchNorm2d(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(functional.relu(norm(x)))], 1)
        return self.head(functional.relu(self.last(x)).mean((2, 3)))


class Attention(nn.Module):
    """A pre-norm block whose queries, keys and values are one projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(*qkv)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    """A vision transformer with a class token."""

    def __init__(self, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 7, 7)
        self.token, self.places = (
            nn.Parameter(0.02 * torch.randn(1, 1, width)),
            nn.Parameter(0.02 * torch.randn(1, 17, width)),
        )
        self.blocks = nn.Sequential(*(Attention(width, 4) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x)[:, 0]))


NETS = {"lstm": Lstm, "unet": UNet, "mobile": Mobile, "dense": Dense, "vit": Vit}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """For `--model benchmarks/traced_nets.py:make --model-arg name=unet`."""
    return NETS[name](), torch.randn(4, 1, 28, 28)
