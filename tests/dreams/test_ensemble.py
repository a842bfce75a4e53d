"""Inputs that descend: by Adam, without what torch's Adam loads."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import Tensor

from deepalign_cli.dreams.ensemble import optimised


def bowl(x: Tensor) -> Tensor:
    return ((x - 2) ** 4).sum() + (x[:, :1] * x[:, 1:]).sum()


def test_it_is_adam_at_a_falling_rate() -> None:
    start = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.12)
    for step in range(20):
        adam.zero_grad()
        torch.autograd.backward(bowl(x))
        adam.param_groups[0]["lr"] = 0.12 * (1 - 0.9 * step / 20)
        adam.step()

    found = optimised(bowl, start, 20)

    assert torch.allclose(found, x.detach(), rtol=0, atol=1e-6)
    assert not torch.allclose(found, start, atol=0.1)
    assert torch.equal(optimised(bowl, start, 0), start)


def test_dreams_designs_and_effects_load_no_compiler() -> None:
    code = """
import sys, torch
from torch.nn.functional import linear
from deepalign_cli.aligners.effects import effects
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.dreams.ensemble import optimised
from deepalign_cli.models.designed import read_design
from deepalign_cli.models.designs import config_of
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.resnet import ResNet
for design in (ResNet((4, 6), 1, 8), Decoder(8, 2, 16)):
    shapes = {n: tuple(w.shape) for n, w in design.init(torch.Generator()).items()}
    read_design(config_of(design), {}, shapes)
optimised(lambda x: x.square().sum(), torch.ones(2), 2)
spec = parse_spec('[axes]\\n"a.weight" = "k 3"\\n"b.weight" = "2 k"')
a = {"a.weight": torch.randn(5, 3), "b.weight": torch.randn(2, 5)}
run = lambda w, x: linear(linear(x, w["a.weight"]).relu(), w["b.weight"])
symmetry = Symmetry(spec, {n: tuple(w.shape) for n, w in a.items()})
found = effects(symmetry, run, a, a, lambda: [torch.randn(4, 3)])
assert set(found.groups) == {"k"}
print({"torch._dynamo", "sympy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
