"""What can be made of a prediction: for each row of `refinements.py` a function of a `Prediction`.

Elements are between networks in canonical scales; `Prediction.get` carries them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.activations import alone, as_prior, matched, with_similarity
from deepalign_cli.aligners.alignment import distance
from deepalign_cli.aligners.choice import Candidate, OnDreams, choose
from deepalign_cli.aligners.correlations import Correlations
from deepalign_cli.aligners.effects import with_effects
from deepalign_cli.aligners.evidence import Dreaming, Evidence, TrainingLoss
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.aligners.prior import descend_with_prior, with_signs
from deepalign_cli.aligners.refinements import REFINEMENTS, STEPS
from deepalign_cli.aligners.sketched import Similarity
from deepalign_cli.aligners.starts import planted_element
from deepalign_cli.aligners.straight_through import quick_steps, trained_match
from deepalign_cli.aligners.weights import WeightMatching, descend
from deepalign_cli.assignment import assign
from deepalign_cli.errors import DataError, DeepalignError
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.stacked import stacked
from deepalign_cli.parameters import load
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.tensor_names import is_statistic


class Prediction:
    """A pair of networks and how alike their units are, predicted when it is first asked for.

    `steps` are those of a refinement that trains.
    """

    def __init__(
        self, network: DeepAlign, pair: Pair, predict: Callable[[], Similarity], evidence: Evidence | None,
        rng: torch.Generator, progress: Progress = SILENT, dreaming: Dreaming | None = None,
        steps: int = STEPS,
    ) -> None:  # fmt: skip
        self.network, self.pair, self.evidence, self.rng = network, pair, evidence, rng
        self._dreaming, self.steps = dreaming, steps
        self._acts = False
        self._predict, self.progress = predict, progress
        self.order = list(pair.symmetry.sizes)

    @cached_property
    def similarity(self) -> Similarity:
        """The predicted similarity of every group's units."""
        return self._predict()

    @cached_property
    def start(self) -> Element:
        """The prediction, rounded."""
        rounded = Element({g: assign(s) for g, s in self.similarity.items()})
        return with_signs(self.pair.problem, rounded)

    @cached_property
    def before(self) -> float:
        """The distance of the networks as they came."""
        return distance(self.pair.symmetry, self.pair.reference, self.pair.moving)

    @property
    def correlations(self) -> Correlations:
        """How alike the units respond to the evidence's data, and to dreams also how alike they act."""
        assert self.evidence is not None
        pair = (self.pair.symmetry, self.pair.reference, self.pair.moving)
        return self._responding_and_acting if self._acts else self.evidence.correlations(*pair)

    @cached_property
    def _responding_and_acting(self) -> Correlations:
        assert self.evidence is not None
        pair = (self.pair.symmetry, self.pair.reference, self.pair.moving)
        return with_effects(self.evidence.correlations(*pair), self.evidence.effects(*pair))

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates that can be made and do not take long."""
        rows = (row for row in REFINEMENTS.values() if not row.slow)
        return tuple(row.name for row in rows if self.evidence or not row.data)

    def get(self, name: str) -> Candidate:
        """The candidate of a name."""
        made = load(REFINEMENTS[name].loads)(self)
        return made if isinstance(made, Candidate) else Candidate(name, *self.pair.closest(made))

    def dream(self) -> OnDreams | None:
        """Dream evidence, where there is none."""
        dreamt = self._dreaming(self.progress) if self._dreaming else None
        if dreamt is None:
            return None
        self.evidence, self._acts, pair = dreamt.evidence, dreamt.acts, self.pair
        shown = dreamt.shows
        judge = self.evidence.judge(pair.symmetry, pair.reference, pair.moving) if shown else None
        return OnDreams(dreamt.says, judge, dreamt.trains)

    def trained(self, start: Candidate) -> Candidate | None:
        """The same, trained on the loss half-way, where a few seconds are enough and it is better for it.

        With BatchNorm, of which matching on activations leaves little to train away, it takes too long. Where
        no gradients can be taken, nothing is trained: nobody has asked for it.
        """
        loss = self.evidence.loss if self.evidence else None
        if loss is None or any(map(is_statistic, self.pair.reference)):
            return None
        try:
            steps = quick_steps(self.pair, loss)
            return self.trained_for(start, loss, steps) if steps else None
        except DeepalignError:  # of the user's forward or loss, with weights that ask for gradients
            return None

    def trained_for(self, start: Candidate, loss: TrainingLoss, steps: int) -> Candidate | None:
        """The same, trained for so many steps; None where it is not better for it, or nothing moves."""
        if not self.order:
            return None
        pair = self.pair
        similarity = dict(refined_similarity(self)) or self.similarity  # nothing to refine by
        stage = self.progress.part(1.0, "training straight through", steps)
        found = trained_match(pair, similarity, start.element, loss, steps, self.rng, stage)
        if not found.after < found.before:
            return None
        after = distance(pair.symmetry, pair.reference, pair.moving, found.element)
        told = f"training took the loss half-way from {found.before:.4g} to {found.after:.4g}"
        where = "examples that were held back" if found.held else "the very examples that it was trained on"
        return Candidate("ste", found.element, after, f"{told}, on {where}")

    def planted(self) -> Candidate | None:
        """Weight matching from the element that makes one network nearly the other, if there is one."""
        planted = planted_element(self.pair.problem)
        if planted is None:
            return None
        element = descend(self.pair.problem, planted, self.rng, progress=self.progress)[0]
        return Candidate("weights", *self.pair.closest(element))

    @property
    def flips(self) -> bool:
        """Whether more than half of the units may change their signs."""
        symmetry = self.pair.symmetry
        return 2 * sum(symmetry.sizes[g] for g in symmetry.turning) > sum(symmetry.sizes.values())

    def slack(self) -> float:
        """The share of the squared distance that one step of weight matching in each group removes."""
        problem = self.pair.problem
        rise = sum(problem.best_step(group, self.start).rise for group in self.order)
        left = problem.energy - 2 * problem.objective(self.start)
        return 2 * rise / left if left > 1e-12 * problem.energy else 0.0


def as_predicted(prediction: Prediction) -> Element:
    """The prediction itself."""
    return prediction.start


def with_neighbours(prediction: Prediction) -> Element:
    """Refined by the network's own refiner, or by a descent in which the prediction is a prior."""
    if not _can_refine(prediction):
        return descend_with_prior(
            prediction.pair.problem, prediction.similarity, prediction.start, prediction.order
        )
    refined = refined_similarity(prediction, prediction.progress)
    perm = {group: assign(logits) for group, logits in refined}
    return Element(perm) if perm else prediction.start  # where nothing moves


def _can_refine(prediction: Prediction) -> bool:
    """The refiner compares weights as they are, so that it is of no use where signs are free."""
    return prediction.network.refiner is not None and not prediction.pair.symmetry.turning


def refined_similarity(
    prediction: Prediction, progress: Progress = SILENT
) -> Iterator[tuple[str, Float[Tensor, "_ _"]]]:
    """How alike units are, group by group, as far as it is known: the refiner's logits where it is of use."""
    symmetry, similarity = prediction.pair.symmetry, prediction.similarity
    if not _can_refine(prediction):
        yield from similarity.items()
        return
    graph = Graph(symmetry)
    if not graph.edges:
        return
    a, b = (stacked(graph, view) for view in prediction.pair.views)
    stage = progress.part(1.0, "refining the prediction", len(symmetry.sizes))
    with torch.no_grad():
        for group, logits in prediction.network.refine(graph, a, b, similarity):
            yield group, logits
            stage()


def straight_through(prediction: Prediction) -> Candidate:
    """What `auto` would keep without training, trained for as long as it was asked for.

    Raises:
        DataError: no loss is known to train on.
    """
    pair, evidence = prediction.pair, prediction.evidence
    assert evidence is not None
    judge = evidence.judge(pair.symmetry, pair.reference, pair.moving)
    if evidence.loss is None or judge is None:
        raise DataError("--refine ste trains on a loss, and the data have no labels.", "give --loss.")
    start = choose(prediction, judge, trains=False).kept
    trained = prediction.trained_for(start, evidence.loss, prediction.steps)
    return trained or replace(start, name="ste", told="training did not lower the loss half-way")


def with_weights(prediction: Prediction) -> Candidate:
    """Refined by weight matching, or weight matching alone where that is closer."""
    pair, rng = prediction.pair, prediction.rng
    stage = prediction.progress.part(1.0, "weight matching")
    refined = descend(pair.problem, prediction.start, rng, prediction.order, stage.part(0.3))[0]
    other = WeightMatching()(pair.symmetry, pair.reference, pair.moving, rng=rng, progress=stage.part(0.7))
    candidates = [
        Candidate("weights", *pair.closest(refined)),
        Candidate("weights", other.element, other.distance_after),
    ]
    return min(candidates, key=lambda c: c.distance)


def with_activations(prediction: Prediction) -> Element:
    """By correlations of activations beside the prediction."""
    return matched(prediction.pair, with_similarity(prediction.correlations, prediction.similarity))


def with_both(prediction: Prediction) -> Element:
    """Weight matching with activations and the prediction as its prior."""
    return _descended(prediction, with_similarity(prediction.correlations, prediction.similarity))


def activations_alone(prediction: Prediction) -> Element:
    """Activation matching."""
    return matched(prediction.pair, prediction.correlations)


def both_alone(prediction: Prediction) -> Element:
    """Weight matching with activations as its prior."""
    return _descended(prediction, prediction.correlations)


def _descended(prediction: Prediction, correlations: Correlations) -> Element:
    symmetry = prediction.pair.symmetry
    plain, flipping = as_prior(symmetry, correlations)
    start = alone(symmetry, correlations)
    return descend_with_prior(prediction.pair.problem, plain, start, prediction.order, flipping=flipping)
