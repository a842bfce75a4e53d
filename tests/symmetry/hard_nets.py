"""Networks that names and shapes alone show badly, or well: what a file may hold, by kind of trap."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

Linear, Conv, Conv1 = nn.Linear, nn.Conv2d, nn.Conv1d
BN1, BN2 = nn.BatchNorm1d, nn.BatchNorm2d
Seq, List = nn.Sequential, nn.ModuleList
Run = Callable[..., Tensor]


class Net(nn.Module):
    """Modules, parameters and buffers in the order given, and what runs them."""

    def __init__(self, run: Run, **parts: Any) -> None:
        super().__init__()
        self._run = run
        for name, part in parts.items():
            if isinstance(part, nn.Parameter):
                self.register_parameter(name, part)
            elif isinstance(part, Tensor):
                self.register_buffer(name, part)
            else:
                self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self, x)


def pooled(x: Tensor) -> Tensor:
    """The mean over all places."""
    return x.flatten(2).mean(2)


def mlp(*sizes: int) -> nn.Sequential:
    layers = [part for a, b in pairwise(sizes) for part in (Linear(a, b), nn.ReLU())]
    return Seq(*layers[:-1])


def line(x: Tensor, *layers: Any) -> Tensor:
    """The layers one after the other, with ReLUs between."""
    for layer in layers[:-1]:
        x = relu(layer(x))
    out: Tensor = layers[-1](x)
    return out


class Block(nn.Module):
    """A basic block of 1, 2 or 3 dimensions, perhaps with squeeze-and-excitation."""

    def __init__(
        self, into: int, out: int, *, dims: int = 2, squeeze: bool = False, norm: bool = True
    ) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        batch_norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]
        self.conv1, self.conv2 = conv(into, out, 3, 1, 1), conv(out, out, 3, 1, 1)
        self.bn1, self.bn2 = batch_norm(out), batch_norm(out)
        self.shortcut = Seq(conv(into, out, 1), batch_norm(out)) if into != out else nn.Identity()
        self.se = (
            Seq(Linear(out, out // 4), nn.ReLU(), Linear(out // 4, out), nn.Sigmoid()) if squeeze else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.se is not None:
            weights = self.se(pooled(out))
            out = out * weights.view(*weights.shape, *[1] * (out.ndim - 2))
        return relu(out + self.shortcut(x))


def resnet(dims: int, *, squeeze: bool = False) -> Net:
    conv, norm = ((nn.Conv1d, BN1), (nn.Conv2d, BN2), (nn.Conv3d, nn.BatchNorm3d))[dims - 1]
    block = partial(Block, dims=dims, squeeze=squeeze)
    return Net(
        lambda s, x: s.fc(pooled(s.layer2(s.layer1(relu(s.bn1(s.conv1(x))))))),
        conv1=conv(3, 8, 3), bn1=norm(8), layer1=Seq(block(8, 8), block(8, 8)), layer2=Seq(block(8, 12)),
        fc=Linear(12, 5),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], layers: int = 1, *, both: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.rnn = kind(6, 10, layers, batch_first=True, bidirectional=both)
        self.head = mlp(10 * (1 + both), 12, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(self.embedding(x))[0][:, -1])
        return out


class Encoder(nn.Module):
    """A transformer whose stream may move only if `positions` are learned and the head reads it whole."""

    def __init__(self, positions: bool, places: int = 1) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.pos = nn.Parameter(torch.randn(1, 5, 16)) if positions else None
        layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc = Linear(16 * places, 3)

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.sin(torch.arange(80, dtype=self.fc.weight.dtype).view(5, 16))
        out = self.encoder(self.embed(x) + (angles if self.pos is None else self.pos))
        scores: Tensor = self.fc(out.mean(1) if self.fc.in_features == 16 else out.flatten(1))
        return scores


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def words(most: int = 20) -> Tensor:
    return torch.randint(0, most, (3, 5), generator=torch.Generator().manual_seed(1))


def cnn(head: nn.Module, run: Run, channels: int = 12) -> Net:
    return Net(run, conv1=Conv(3, 8, 3), conv2=Conv(8, channels, 3), fc=head)


FEATURES = (partial(image, 3, 3, 8, 8), partial(image, 3, 10))
IMAGES, ROWS = FEATURES

# What is decidable: the function stays, and what is said names no more than what a file cannot show.
EXACT: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "a norm of its own size behind a linear layer": (lambda: Net(
        lambda s, x: line(s.bn3(s.fc1(pooled(s.features(x)))), nn.Identity(), s.fc2),
        features=Seq(Conv(3, 8, 3), BN2(8), nn.ReLU(), Conv(8, 16, 3), BN2(16), nn.ReLU()),
        fc1=Linear(16, 16), bn3=BN1(16), fc2=Linear(16, 5)), IMAGES),
    "blocks of a tutorial": (lambda: Net(
        lambda s, x: s.fc(s.layer2(s.layer1(x)).flatten(1)),
        layer1=Seq(Conv(3, 6, 3, 1, 1), BN2(6), nn.ReLU(), nn.MaxPool2d(2)),
        layer2=Seq(Conv(6, 12, 3, 1, 1), BN2(12), nn.ReLU(), nn.MaxPool2d(2)), fc=Linear(48, 5)), IMAGES),
    "norms before their layers": (lambda: Net(
        lambda s, x: s.fc3(relu(s.norm3(s.fc2(relu(s.norm2(s.fc1(s.norm1(x)))))))),
        norm1=BN1(10), fc1=Linear(10, 24), norm2=BN1(24), fc2=Linear(24, 24), norm3=BN1(24),
        fc3=Linear(24, 3)), ROWS),
    "two towers": (lambda: Net(
        lambda s, x: s.tower1(x) * s.tower2(x), tower1=mlp(10, 24, 10), tower2=mlp(10, 24, 10)), ROWS),
    "an actor and a critic": (lambda: Net(
        lambda s, x: torch.cat([s.actor(x) * s.log_std.exp(), s.critic(x)], 1),
        log_std=nn.Parameter(torch.zeros(10)), actor=mlp(10, 24, 10), critic=mlp(10, 24, 1)), ROWS),
    "experts and their gate": (lambda: Net(
        lambda s, x: sum(w[:, None] * e(x) for w, e in zip(s.gate(x).softmax(1).T, s.experts, strict=True)),
        gate=Linear(10, 3), experts=List([mlp(10, 24, 10) for _ in range(3)])), ROWS),
    "a generator and its discriminator": (lambda: Net(
        lambda s, x: s.netD(s.netG(x)), netG=mlp(10, 24, 16), netD=mlp(16, 24, 1)), ROWS),
    "residual blocks in a list": (lambda: Net(
        lambda s, x: s.out(s.blocks[1](y := s.blocks[0](z := s.inp(x)) + z) + y),
        inp=Linear(10, 16), blocks=List([mlp(16, 24, 16), mlp(16, 24, 16)]), out=Linear(16, 3)), ROWS),
    "an embedding that is square": (lambda: Net(
        lambda s, x: line(s.emb(x).mean(1), s.fc1, s.fc2), emb=nn.Embedding(16, 16), fc1=Linear(16, 24),
        fc2=Linear(24, 4)), partial(words, 16)),
    "tokens and positions": (lambda: Net(
        lambda s, x: line((s.token_emb(x) + s.pos_emb(torch.arange(5))).mean(1), s.fc1, s.fc2),
        token_emb=nn.Embedding(20, 12), pos_emb=nn.Embedding(5, 12), fc1=Linear(12, 24), fc2=Linear(24, 4)),
        words),
    "an LSTM": (partial(Recurrent, nn.LSTM, 2), words),
    "a GRU of both directions": (partial(Recurrent, nn.GRU, 2, both=True), words),
    "an RNN": (partial(Recurrent, nn.RNN), words),
    "a ResNet of one dimension": (partial(resnet, 1), partial(image, 3, 3, 9)),
    "a ResNet of three dimensions": (partial(resnet, 3), partial(image, 2, 3, 5, 5, 5)),
    "squeeze-and-excitation": (partial(resnet, 2, squeeze=True), IMAGES),
    "a deep stem and no head": (lambda: Net(
        lambda s, x: s.res_blocks(s.stem(x)),
        stem=Seq(Conv(3, 6, 3), BN2(6), nn.ReLU(), Conv(6, 8, 3), BN2(8), nn.ReLU()),
        res_blocks=Seq(Block(8, 8), Block(8, 8))), IMAGES),
    "groups of blocks and a head of two layers": (lambda: Net(
        lambda s, x: s.classifier(pooled(s.group2(s.group1(s.stem(x))))),
        stem=Seq(Conv(3, 8, 3), BN2(8), nn.ReLU()), group1=Seq(Block(8, 8)), group2=Seq(Block(8, 12)),
        classifier=mlp(12, 10, 4)), IMAGES),
    "constants of the inputs": (lambda: Net(
        lambda s, x: s.fc2(s.act(s.fc1((x - s.mean) / s.std.exp()))) * s.scale,
        mean=torch.zeros(10), std=torch.ones(10), scale=nn.Parameter(torch.ones(1)), fc1=Linear(10, 16),
        act=nn.PReLU(), fc2=Linear(16, 3)), ROWS),
    "positions that are learned": (partial(Encoder, True), words),
    "positions that are computed": (partial(Encoder, False), words),
    "a head on all places at once": (partial(Encoder, True, 5), words),
    "layers of one Sequential, all equal": (lambda: mlp(10, 10, 10, 10, 3), ROWS),
}  # fmt: skip

# What has two readings, and a word of the refusal.
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "two poolings side by side": (
        lambda: cnn(Linear(24, 5), lambda s, x: x),
        "2 for each channel of 'conv2': a concatenation",
    ),
    "convolutions of several kernels": (
        lambda: Net(lambda s, x: x, convs=List([Conv1(12, 12, k) for k in (3, 4, 5)]), fc=Linear(36, 2)),
        "3 for each channel of 'convs.2'",
    ),
    "branches on grey images": (
        lambda: Net(lambda s, x: x, conv1=Conv(1, 16, 3), conv2=Conv(1, 16, 3), fc=Linear(16, 5)),
        "or read an input of one channel",
    ),
    "heads of equal width": (
        lambda: Net(lambda s, x: x, fc=Linear(9, 24), head_a=Linear(24, 24), head_b=Linear(24, 3)),
        "'head_a' and 'head_b' may stand beside one another",
    ),
    "norms before or behind, all equal": (
        lambda: Net(lambda s, x: x, norm1=BN1(8), fc1=Linear(8, 8), norm2=BN1(8), fc2=Linear(8, 8)),
        "'norm1' may stand before or behind 'fc1'",
    ),
    "a gate": (
        lambda: Net(lambda s, x: x, inp=Linear(9, 24), gate=Linear(24, 24), out=Linear(24, 3)),
        "'gate' may stand beside",
    ),
    "a recurrence by hand": (
        lambda: Net(lambda s, x: x, i2h=Linear(34, 24), h2o=Linear(24, 3)),
        "'i2h' may stand beside",
    ),
    "squeeze-and-excitation in a chain": (
        lambda: Net(
            lambda s, x: x, conv1=Conv(3, 16, 3), se1=Conv(16, 4, 1), se2=Conv(4, 16, 1), fc=Linear(16, 5)
        ),
        "'se1' may stand beside",
    ),
    "an even square kernel": (
        lambda: Seq(Conv(3, 16, 3), nn.ReLU(), Conv(16, 16, 2), nn.ReLU(), Conv(16, 3, 3)),
        "may be a convolution or a transposed one",
    ),
    "decoders that count down": (
        lambda: Net(
            lambda s, x: x, enc=Linear(40, 8), dec2=Linear(8, 8), dec1=Linear(8, 8), out=Linear(8, 40)
        ),
        "numbered downwards",
    ),
    "an embedding that may add to hidden units": (
        lambda: Net(
            lambda s, x: x, fc1=Linear(9, 24), fc2=Linear(24, 16), emb=nn.Embedding(5, 24), fc3=Linear(16, 5)
        ),
        "may feed or add to 'fc1'",
    ),
    "an encoder that hands its state on": (
        lambda: Net(lambda s, x: x, encoder=nn.GRU(8, 8), decoder=nn.GRU(8, 8), out=Linear(8, 3)),
        "or hands its state on",
    ),
    "an LSTM that is read twice": (
        lambda: Net(lambda s, x: x, lstm=nn.LSTM(6, 10), fc=Linear(20, 3)),
        "reads its 10 units",
    ),
    "a gain in a residual block": (
        lambda: Net(
            lambda s, x: x,
            conv1=Conv(3, 8, 3),
            layer1=Seq(
                Net(
                    lambda s, x: x,
                    conv1=Net(
                        lambda s, x: x,
                        weight=nn.Parameter(torch.ones(8, 8, 3, 3)),
                        gain=nn.Parameter(torch.ones(8)),
                    ),
                    conv2=Conv(8, 8, 3),
                )
            ),
            fc=Linear(8, 5),
        ),
        r"'layer1.0.conv1.gain' has no known role",
    ),
    "a shortcut called conv3": (
        lambda: Net(
            lambda s, x: x,
            conv1=Conv(3, 8, 3),
            layer1=Seq(Net(lambda s, x: x, conv1=Conv(8, 8, 3), conv2=Conv(8, 8, 3), conv3=Conv(8, 8, 1))),
            fc=Linear(8, 5),
        ),
        "may be the shortcut of its block",
    ),
    "a norm that is called a GroupNorm": (
        lambda: Net(lambda s, x: x, fc1=Linear(9, 24), gn1=nn.GroupNorm(4, 24), fc2=Linear(24, 3)),
        "'gn1' may be a GroupNorm",
    ),
}

# What only running shows: the function changes, and one line names just that.
SAID: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], str]] = {
    "channels last": (
        lambda: cnn(
            Linear(192, 5), lambda s, x: s.fc(relu(s.conv2(relu(s.conv1(x)))).permute(0, 2, 3, 1).flatten(1))
        ),
        IMAGES,
        "'fc' is assumed to read the 16 places of each of the 12 channels of 'conv2' one channel after",
    ),
    "sorted units": (
        lambda: Net(
            lambda s, x: s.fc2(s.fc1(x).view(-1, 8, 2).sort(2)[0].flatten(1)),
            fc1=Linear(10, 16),
            fc2=Linear(16, 3),
        ),
        ROWS,
        "nothing between them that leaves no tensor and mixes units",
    ),
    "a skip of equal width": (
        lambda: Net(
            lambda s, x: s.fc3(relu(s.fc2(y := relu(s.fc1(x))) + y)),
            fc1=Linear(10, 16),
            fc2=Linear(16, 16),
            fc3=Linear(16, 3),
        ),
        ROWS,
        "no skip connection is assumed between 'fc1' and 'fc2', which are all 16 wide",
    ),
    "the inputs added again": (
        lambda: Net(lambda s, x: s.fc2(relu(s.fc1(x)) + x), fc1=Linear(10, 10), fc2=Linear(10, 3)),
        ROWS,
        "no skip connection is assumed between the inputs and 'fc1', which are all 10 wide",
    ),
    "a layer beside the others": (
        lambda: Net(
            lambda s, x: s.out(relu(s.inp(x))), inp=Linear(10, 16), proj=Linear(16, 16), out=Linear(16, 3)
        ),
        ROWS,
        "'inp' is assumed to feed 'proj', which their shapes alone suggest",
    ),
    "a GroupNorm behind a linear layer": (
        lambda: Seq(Linear(10, 16), nn.GroupNorm(4, 16), nn.ReLU(), Linear(16, 3)),
        ROWS,
        "'1' is assumed to be a LayerNorm over all units, not a GroupNorm",
    ),
    "a transposed convolution": (
        lambda: Seq(Conv(3, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 8, 3, 2), nn.ReLU(), Conv(8, 3, 3)),
        IMAGES,
        "'2' [8, 8, 3, 3] is assumed to be a convolution, not a transposed one",
    ),
    "a convolution of each input channel": (
        lambda: Seq(Conv(3, 3, 3, groups=3), nn.ReLU(), Conv(3, 8, 3), nn.ReLU(), Conv(8, 3, 3)),
        IMAGES,
        "'0' is assumed to read an input of one channel, not several one by one",
    ),
    "an embedding added to the inputs": (
        lambda: Net(
            lambda s, x: line(x + s.class_emb(torch.arange(3)), s.fc1, s.fc2),
            class_emb=nn.Embedding(3, 10),
            fc1=Linear(10, 16),
            fc2=Linear(16, 3),
        ),
        ROWS,
        "'fc1' is assumed to read 'class_emb' alone",
    ),
    "a mean of hidden units": (
        lambda: Net(
            lambda s, x: s.fc2(relu(s.fc1(x) - s.mean)),
            mean=torch.linspace(0, 3, 16),
            fc1=Linear(10, 16),
            fc2=Linear(16, 3),
        ),
        ROWS,
        "'mean' [16] is assumed to hold constants of the inputs or outputs",
    ),
}
