"""torchvision's VGG, known by its names: what it fixes that shapes do not tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from deepalign_cli.symmetry.families.chain import Chain

_LINEARS = ["classifier.0", "classifier.3", "classifier.6"]


def vgg_options(chain: Chain) -> Mapping[str, str] | None:
    """The options that torchvision's VGG fixes, or None where the chain is not one.

    Convolutions of 3x3 called `features.N`, each followed by BatchNorm or by nothing with a name, and
    `classifier.0`, `.3`, `.6`. A number that is left out behind an activation is a max-pool; the last
    activation is followed by one, and by an adaptive mean-pool to what `classifier.0` reads.
    """
    convs = [layer for layer in chain.layers if layer.is_conv]
    linears = [layer for layer in chain.layers if not layer.is_conv]
    matches = [re.fullmatch(r"features\.(\d{1,6})", layer.module.path) for layer in convs]
    kernels = {tuple(layer.module.shapes["weight"][2:]) for layer in convs}
    if [layer.module.path for layer in linears] != _LINEARS or kernels != {(3, 3)} or None in matches:
        return None
    numbers = [int(m[1]) for m in matches if m]
    norms = 1 if chain.norms else 0
    if {n.path for n in chain.norms} != {f"features.{n + 1}" for n in numbers[: len(chain.norms)]}:
        return None
    gaps = [after - before - 2 - norms for before, after in pairwise(numbers)]
    places = linears[0].into // convs[-1].out
    side = round(places**0.5)
    if numbers[0] or len(chain.norms) not in (0, len(convs)) or set(gaps) - {0, 1} or side**2 != places:
        return None
    pools = ",".join(str(i) for i, gap in enumerate((*gaps, 1), 1) if gap)
    fixed = {"activation": "relu", "padding": "1", "pools": pools, "head": "flatten"}
    return {**fixed, "adaptive": str(side)}
