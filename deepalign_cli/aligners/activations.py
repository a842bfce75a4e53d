"""Activation matching: units are matched by the correlations of their activations over some data.

Li et al. 2015 and Ainsworth et al. 2023 (section 3.1) match units by their activations; here these are
standardised, which does better than raw inner products.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.correlations import Correlations
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.aligners.prior import descend_with_prior, deviation, with_signs
from deepalign_cli.aligners.steps import Matrices, best_step
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

_SHARE = 1.0  # of a prediction beside correlations; .5 and 2 were no better on held-out networks
_FIRST = 1e3  # of correlations beside gains, where gains are to decide ties only


class ActivationMatching:
    """Activation matching as a method. Methods that share their evidence gather it once.

    Correlations know no scales: those of ReLU units come from canonical scales or stay, whichever is
    closer. Units that never change and groups that no layer reads are matched by their weights. `details`
    hold the number of examples (`samples`) and those groups (`unread`), `objective` the sum of the matched
    correlations.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        found = self.evidence.correlations(symmetry, reference, moving, progress)
        pair = Pair(symmetry, reference, moving)
        return as_alignment("activations", pair, found, matched(pair, found), started)


def as_alignment(
    method: str, pair: Pair, found: Correlations, match: Element, started: float, **details: object
) -> Alignment:
    """What a method that looks at data returns for a match of a pair's views; begun at `started`."""
    element, after = pair.closest(match)
    told = {"samples": found.samples, "unread": list(found.unread), **details}
    before = distance(pair.symmetry, pair.reference, pair.moving)
    seconds = time.perf_counter() - started
    return Alignment(pair.symmetry, element, method, seconds, before, after, (total(found, element),), told)


def matched(pair: Pair, found: Correlations) -> Element:
    """The best match of every group by itself; weights decide among units that never change.

    And they give the signs of units whose activations do not turn with them, as those behind a norm.
    """
    start = alone(pair.symmetry, found)
    plain, flipping = as_prior(pair.symmetry, found)
    element = descend_with_prior(pair.problem, plain, start, found.open, _FIRST, flipping)
    return with_signs(pair.problem, element, [g for g in pair.symmetry.turning if g not in flipping])


def alone(symmetry: Symmetry, found: Correlations) -> Element:
    """The element of the largest sum of correlations."""
    steps = [best_step(matrices).element(group) for group, matrices in found.groups.items()]
    return Element(
        {**symmetry.identity().perm} | {g: p for step in steps for g, p in step.perm.items()},
        {g: s for step in steps for g, s in step.scale.items()},
    )


def as_prior(symmetry: Symmetry, found: Correlations) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The correlations as `descend_with_prior` takes them; 0 for groups that no layer reads."""
    plain = {g: torch.zeros(n, n, dtype=torch.float64) for g, n in symmetry.sizes.items()}
    plain |= {group: matrices.plain for group, matrices in found.groups.items()}
    return plain, {g: m.flipping for g, m in found.groups.items() if m.flipping is not None}


def with_similarity(
    found: Correlations, similarity: Mapping[str, Float[Tensor, "_ _"]], share: float = _SHARE
) -> Correlations:
    """Correlation / std + share * similarity / std in every group; where none is read, similarity alone."""
    groups: dict[str, Matrices] = {}
    for group, similar in similarity.items():
        plain = share * similar.double() / (similar.double().std(correction=0) + 1e-30)
        flipping = None
        if group in found.groups:
            own = found.groups[group]
            over = deviation(own)
            plain, flipping = plain + own.plain / over, None if own.flipping is None else own.flipping / over
        groups[group] = Matrices(plain, flipping, Element({}))
    return Correlations(groups, found.samples, ())


def total(found: Correlations, g: Element) -> float:
    """The sum of the correlations of all units that an element matches."""
    value = 0.0
    for group, matrices in found.groups.items():
        units = torch.arange(len(g.perm[group]))
        value += float(matrices.plain[units, g.perm[group]].sum())
        if matrices.flipping is not None:
            flipping = matrices.flipping[units, g.perm[group]]
            value += float((flipping * g.scale.get(group, torch.ones(len(units)))).sum())
    return value
