"""Many networks moved onto one another at once, so that no one of them is the reference.

Of N networks, sum over all pairs <g_i W_i, g_j W_j> is what cycle-consistent matching maximises (Crisostomi
et al. 2024, arXiv 2405.17897). With all others held it is weight matching of network i to their sum, so every
visit raises it: what MergeMany does with the mean (Ainsworth et al. 2023, algorithm 3). It begins from
alignments to one network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepalign_cli.aligners.canonical import canonical_scales
from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.weights import descend
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_trained, widened

_ROUNDS = 20
_RESOLUTION = 1e-7  # of the energy of all networks: a smaller rise is rounding


def universal(
    symmetry: Symmetry, networks: Sequence[Weights], start: Sequence[Element], rng: torch.Generator,
    progress: Progress = SILENT,
) -> tuple[list[Element], list[float]]:  # fmt: skip
    """The elements that carry every network onto the first, and the objective after every round.

    `start` has one for each; the first network's is the identity.
    """
    own = [canonical_scales(symmetry, weights) for weights in networks]
    views = [Acted(symmetry, scales, weights) for scales, weights in zip(own, networks, strict=True)]
    found = [own[0] @ g @ scales.inverse() for g, scales in zip(start, own, strict=True)]
    total = _summed(symmetry, views, found)
    objective = [squares(total)]
    stage = progress.part(1.0, "aligning all at once", _ROUNDS * len(networks))
    for _ in range(_ROUNDS):
        for i, view in enumerate(views):
            others = {
                name: w - symmetry.act(found[i], name, widened(view[name])) for name, w in total.items()
            }
            found[i] = descend(
                Gains(symmetry, others, view, shifts=False), found[i], rng, list(symmetry.sizes)
            )[0]
            total = {
                name: w + symmetry.act(found[i], name, widened(view[name])) for name, w in others.items()
            }
            stage()
        objective.append(squares(total))
        if objective[-1] - objective[-2] <= _RESOLUTION * objective[-1]:
            break
    first = found[0].inverse()
    return [own[0].inverse() @ first @ g @ scales for g, scales in zip(found, own, strict=True)], objective


def _summed(symmetry: Symmetry, views: Sequence[Weights], found: Sequence[Element]) -> dict[str, Tensor]:
    """The sum of all networks under their elements, of what is trained and moves."""
    moving = [name for name, w in views[0].items() if counts_in_objective(symmetry, name, w)]
    total: dict[str, Tensor] = {}
    for g, view in zip(found, views, strict=True):
        for name in moving:
            w = symmetry.act(g, name, widened(view[name]))
            total[name] = total[name] + w if name in total else w
    return total


def counts_in_objective(symmetry: Symmetry, name: str, w: Tensor) -> bool:
    """Whether a tensor counts in the objective: it is trained, and moves."""
    return is_trained(name, w) and symmetry.moves(name)


def squares(total: Weights) -> float:
    """|sum_i g_i W_i|^2: twice the objective, and the networks' own energies, which no element changes."""
    return sum(float(w.double().square().sum()) for w in total.values())
