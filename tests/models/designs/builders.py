"""What the tests of several designs share: generic weights, and PyTorch's modules with the same ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepalign_cli.models.designs import Design, examples_of
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.conv1d import Conv1d
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from deepalign_cli.models.designs.rnn import RNN
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.models.designs.transformer import Transformer
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.train import known
from tests.nets import randomise_
from tests.symmetry.builders import seeded

LLAMA = Decoder(
    16, 4, 24, layers=1, context=8, tokens=11,
    norm="rms", positions="rotary", feed_forward="swiglu", queries=2, bias=False,
)  # fmt: skip
ALL: dict[str, Design] = {
    "mlp": MLP((12, 16, 20, 5)),
    "mlp_deep_tanh": MLP((6, *[10] * 11, 4), "tanh"),
    "cnn": CNN((1, 8, 12), 12),
    "cnn_norm": CNN((3, 8, 12, 12), 8, norm=True, pools=(1, 3), activation="leaky_relu"),
    "cnn_average": CNN((3, 8, 12), 12, norm=True, average=True),
    "cnn_average_bias": CNN((1, 8, 8), 8, average=True, pools=(2,)),
    "cnn_separable": CNN((3, 8, 12), 12, norm=True, average=True, activation="silu", separable=True),
    "conv1d": Conv1d((8, 12), size=9),
    "conv1d_norm": Conv1d((8, 12), kernel=3, size=6, colours=3, norm=True, activation="gelu"),
    "resnet": ResNet((8, 12), blocks=2),
    "resnet_stride": ResNet((4, 6, 8), size=32, colours=3, stride=2),
    "resnet_bottleneck": ResNet((8, 12), blocks=2, squeeze=2, activation="silu"),
    "recurrent_gru": RNN(12, size=6),
    "recurrent_lstm": RNN(12, layers=2, cell="lstm", size=5, colours=3),
    "siren": Siren((2, 16, 16, 1), w0=3.0),
    "transformer": Transformer(16, 4, 24),
    "transformer_colour": Transformer(12, 2, 20, layers=1, size=16, patch=4, colours=3),
    "transformer_rms": Transformer(16, 2, 24, layers=1, norm="rms", bias=False),
    "transformer_rotary": Transformer(16, 2, 24, layers=1, positions="rotary", feed_forward="swiglu"),
    "decoder": Decoder(16, 4, 24, context=8, tokens=11),
    "decoder_llama": LLAMA,
}


def weights_of(design: Design, seed: int = 0) -> dict[str, Tensor]:
    """Generic float64 weights: no zero bias, no unit norm."""
    made: dict[str, Tensor] = {}
    draw = seeded(seed)
    for name, w in design.init(draw).items():
        noise = 0.3 * torch.randn(w.shape, generator=draw, dtype=torch.float64)
        made[name] = w.double() + noise.abs() if name.endswith("running_var") else w.double() + noise
    return made


def inputs_of(design: Design, count: int = 5) -> Tensor:
    """Numbers in float64, or tokens."""
    x = examples_of(design, count, seeded(9))
    return x.double() if x.is_floating_point() else x


def symmetry_of(design: Design) -> Symmetry:
    """The symmetry as it is read off names and shapes, or traced."""
    return known.symmetry_of(design, design.init(seeded(0)))


def loaded(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The module in float64 with these weights, every one of which it must know."""
    module = randomise_(module.double(), seeded(77))
    odd = module.load_state_dict(weights, strict=False)
    assert odd.unexpected_keys == []
    assert all(name.endswith("num_batches_tracked") for name in odd.missing_keys)
    return module.eval()


def same_outputs(design: Design, module: nn.Module) -> bool:
    """Whether the design and a module of its own weights agree on some inputs."""
    weights, x = weights_of(design), inputs_of(design)
    with torch.no_grad():
        expected = loaded(module, weights)(x)
    assert float(expected.std(dim=0).min()) > 1e-6
    return torch.allclose(design(weights, x), expected, rtol=1e-9, atol=1e-10)


def same_statistics(design: Design, module: nn.Module) -> bool:
    """Whether batch statistics are used, and kept, as the module in training mode does at momentum 1."""
    weights, x = weights_of(design), inputs_of(design)
    stored = {n: w.clone() for n, w in weights.items() if "running" in n}
    module = loaded(module, weights).train()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    with torch.no_grad():
        expected, found = module(x), design(weights, x, stored)
    after = module.state_dict()
    assert stored.keys() == {n for n in after if "running" in n}
    assert not torch.allclose(found, design(weights, x), atol=1e-3)
    assert torch.allclose(found, design(weights, x, {}), atol=1e-12)
    return torch.allclose(found, expected, atol=1e-9) and all(
        torch.allclose(w, after[n], atol=1e-9) for n, w in stored.items()
    )
