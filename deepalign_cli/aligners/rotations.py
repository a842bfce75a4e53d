"""Matching that turns heads and residual streams besides permuting units (Theus et al. 2025).

By weights alone it is a descent of assignments and rotations, in whose first sweep streams are turned as the
learned aligner predicts. Where the networks can be run, on data or on inputs that they dream, it starts by
the labelled ends alone and by how streams respond, too; the best is kept, and gradients of the loss half-way
turn it further.
"""

from __future__ import annotations

import time
from typing import cast

import torch

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.canonical import canonical_scales
from deepalign_cli.aligners.choice import finite_loss
from deepalign_cli.aligners.deepalign import AUTO, learned_aligner
from deepalign_cli.aligners.evidence import Dreaming, Evidence
from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.parents import Parents
from deepalign_cli.aligners.predicted_turns import predicted_streams
from deepalign_cli.aligners.turned_paths import RATE, midpoint, refined_turns
from deepalign_cli.aligners.turning_descent import descend_turning
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.turns import Turn

_STILL = "nothing may turn in these networks, so units are permuted alone"
_ON_NOISE = 100  # steps at most
_MANY = 512  # dreams; fewer are soon known by heart, so steps are smaller
_SKETCHES = 8  # that the learned aligner reads
_DREAMING, _MATCHING = 0.1, 0.4  # of the work, where there is more to do


class RotationMatching:
    """Alternating assignments and rotations, and where networks can be run, the loss half-way.

    `path_steps` are those of gradients on the rotations. `details` hold the steps of matching, what the start
    was found by, and the loss half-way before and after the gradients.
    """

    def __init__(
        self, path_steps: int = 300, evidence: Evidence | None = None, dreaming: Dreaming | None = None
    ) -> None:
        self.path_steps, self.evidence, self.dreaming = path_steps, evidence, dreaming

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        details: dict[str, object] = {"notes": [] if symmetry.within else [_STILL]}
        evidence = self._evidence(details, progress)
        parents = Parents(evidence.run, reference, moving, evidence.batches) if evidence else None
        stage = progress.part(_MATCHING if parents else 1.0, "matching")
        pair = symmetry, reference, moving
        element, objective = self._matched(*pair, evidence, parents, details, rng, stage)
        if parents and self.path_steps and element.turn:
            steps, rate = self.path_steps, RATE
            if "dreamt" in details:
                rate *= min(1.0, len(parents) / _MANY)
            if not details.get("dreamt", True):
                steps, rate = min(steps, _ON_NOISE), rate / 4
            refined = refined_turns(
                symmetry, reference, moving, element, parents, steps, rng, progress, rate=rate
            )
            element = refined.element
            details |= {"midpoint_loss_before": refined.before, "midpoint_loss_after": refined.after}
        before, after = (distance(symmetry, reference, moving, g) for g in (None, element))
        seconds = time.perf_counter() - started
        return Alignment(symmetry, element, "rotations", seconds, before, after, tuple(objective), details)

    def _evidence(self, details: dict[str, object], progress: Progress) -> Evidence | None:
        """The data, or what the networks dream in their place."""
        dreamt = self.dreaming(progress.part(_DREAMING)) if self.dreaming else None
        if dreamt is None:
            return self.evidence
        note = f"inputs were dreamed: {dreamt.says} (--no-dream aligns by weights alone)"
        details |= {"notes": [*cast("list[str]", details["notes"]), note], "dreamt": dreamt.shows}
        return dreamt.evidence

    def _matched(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, evidence: Evidence | None,
        parents: Parents | None, details: dict[str, object], rng: torch.Generator, progress: Progress,
    ) -> tuple[Element, list[float]]:  # fmt: skip
        """From what is predicted; or that, the labelled ends or what readers see, by the nearest midpoint."""
        own, other = (canonical_scales(symmetry, weights) for weights in (reference, moving))
        views = Acted(symmetry, own, reference), Acted(symmetry, other, moving)
        told = _predicted(symmetry, views, rng, progress.part(0.1))
        starts: dict[str, tuple[dict[str, Turn], dict[str, Turn]]] = {}
        starts |= {"prediction": ({}, told)} if told else {"weights": ({}, {})}
        if evidence and details.get("dreamt", True):  # on noise, what streams do says little of any start
            seen = streams_seen(symmetry, views, evidence, progress.part(0.3))
            starts |= {"weights": ({}, {})} | ({"activations": (seen, {})} if seen else {})
        found = {}
        for by, (fixed, begin) in starts.items():
            stage = progress.part(1 / len(starts))
            match, objective = descend_turning(Gains(symmetry, *views), fixed, stage, begin)
            found[by] = own.inverse() @ match @ other, objective
        best = next(iter(found))
        if parents and len(found) > 1:
            means = {by: midpoint(symmetry, reference, moving, one[0]) for by, one in found.items()}
            losses = {by: finite_loss(parents.judge(mean)) for by, mean in means.items()}
            best = min(losses, key=losses.__getitem__)
        details |= {"start": best, "steps": len(found[best][1]) - 1}
        return found[best]


def _predicted(
    symmetry: Symmetry, views: tuple[Weights, Weights], rng: torch.Generator, progress: Progress
) -> dict[str, Turn]:
    """How streams turn as the learned aligner predicts; nothing where there are none."""
    if all(symmetry.within.values()):
        return {}
    aligner = learned_aligner(DEFAULT_NETWORK, AUTO, _SKETCHES, None)
    return predicted_streams(aligner, symmetry, *views, rng, progress)


def streams_seen(
    symmetry: Symmetry, views: tuple[Weights, Weights], evidence: Evidence, progress: Progress = SILENT
) -> dict[str, Turn]:
    """How streams turn by the covariances of what their readers see in networks without gains."""
    if not any(not outer for outer in symmetry.within.values()):
        return {}
    a, b = (dict(view) for view in views)  # which are run many times
    found = evidence.correlations(symmetry, a, b, progress)
    return {
        group: Turn(symmetry.kinds[group].nearest(found.groups[group].plain[None]))
        for group, outer in symmetry.within.items()
        if not outer and group in found.groups
    }
