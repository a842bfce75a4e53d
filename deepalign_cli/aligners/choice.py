"""Which candidate to keep: by the loss on data, or, where there are none, by what the weights say.

Weight distance is the wrong judge where the aligner knows the networks: weight matching after the
prediction lowers the distance a little and raises the barrier. It is a fair one where the weights
contradict the prediction. The two cases are told apart by the prediction's slack: the share of the squared
distance that one step of weight matching in every group would still remove. On every family of
`benchmarks/alignment.py --choice` it is below .2 but on sine networks, where it is above .5. Where it is
nothing, there is nothing to refine; and where one network is nearly a copy of the other, nothing to predict.
Where most units may change their signs, as behind tanh, the signs tell weight matching more than the aligner,
which has seen few such networks (docs/results.md), so that it decides there.
Else, where the networks can dream, activations on dreams make more candidates, and outputs on dreams judge.
What is kept is trained on the loss half-way, on data or on dreams of classes, where that takes no long time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from deepalign_cli.symmetry.element import Element

MOST_SLACK = 0.3
_ON_DREAMS = ("activations", "dual", "activations alone", "dual alone")

Judge = Callable[[Element], float]  # the loss half-way to the moved network: lower is better


@dataclass(frozen=True)
class Candidate:
    """An alignment that could be kept, the distance that it leaves, and a word on how it was found."""

    name: str
    element: Element
    distance: float
    told: str = ""


@dataclass(frozen=True)
class OnDreams:
    """What was dreamed, as it `says`, what judges by it where that can be trusted, and whether it trains."""

    says: str
    judge: Judge | None = None
    trains: bool = False


@runtime_checkable
class Candidates(Protocol):
    """Makes a candidate by one of `names`; `slack` is the prediction's.

    `flips` says that most units may change their signs. `planted` is what weight matching finds where one
    network is nearly a copy of the other, `before` the distance of the networks as they came. `dream`
    makes more names possible, if it can. `trained` is a candidate that has been trained, where that takes no
    long time and has made it better.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def get(self, name: str) -> Candidate: ...

    @property
    def before(self) -> float: ...

    @property
    def flips(self) -> bool: ...

    def planted(self) -> Candidate | None: ...

    def dream(self) -> OnDreams | None: ...

    def trained(self, start: Candidate) -> Candidate | None: ...

    def slack(self) -> float: ...


@dataclass(frozen=True)
class Choice:
    """The candidate that is kept, why, what the user should know, and the slack where it decided."""

    kept: Candidate
    why: str
    notes: list[str] = field(default_factory=list)
    slack: float | None = None


def choose(candidates: Candidates, judge: Judge | None = None, *, trains: bool = True) -> Choice:
    """Which candidate to keep. With a judge, the best by data; a loss that is not a number is the worst.

    With data but no loss to judge by, the one in which activations, prediction and weights all count. What
    is kept may be trained unless `trains` is false.
    """
    if judge is not None:
        return _by_data(candidates, judge, trains=trains)
    if "dual" in candidates.names:
        return Choice(candidates.get("dual"), "activations and weights on the data, beside the prediction")
    choice = _without_data(candidates)
    return replace(choice, notes=[*choice.notes, *notes_on(choice.kept, candidates.before)])


def finite_loss(loss: float) -> float:
    """A loss to compare by: what is not a number is the worst."""
    return loss if math.isfinite(loss) else math.inf


def notes_on(candidate: Candidate, before: float) -> list[str]:
    """What the user should know of a candidate that no data have judged."""
    if candidate.distance <= before:
        return []
    return [
        f"B is farther from A than it was: its distance was {before:.4g}, now {candidate.distance:.4g}. "
        "A smaller distance is not the aim, so the alignment may still be good; '-m weights' never raises "
        "the distance, and with '--data' the loss decides"
    ]


def _by_data(candidates: Candidates, judge: Judge, *, trains: bool) -> Choice:
    made = [candidates.get(name) for name in candidates.names]
    losses = [finite_loss(judge(candidate.element)) for candidate in made]
    least = min(losses)
    best = made[losses.index(least)]
    trained = candidates.trained(best) if trains else None
    if trained is not None and (after := finite_loss(judge(trained.element))) < least:
        best, least = trained, after
    return Choice(best, f"the lowest loss half-way on the examples looked at, {least:.4g}")


def _without_data(candidates: Candidates) -> Choice:
    planted = candidates.planted()
    if planted is not None:
        return Choice(planted, "B is nearly A with its units moved, as the weights alone show")
    slack = candidates.slack()
    if not slack:
        return Choice(
            candidates.get("none"), "weight matching would move no unit of the prediction", [], slack
        )
    dreamt = candidates.dream()
    if dreamt is None:
        return _by_slack(candidates, slack)
    note, judge = f"inputs were dreamed: {dreamt.says} (--no-dream aligns by weights alone)", dreamt.judge
    if dreamt.trains:
        usual = _by_slack(candidates, slack)
        trained = candidates.trained(usual.kept)
        usual = replace(usual, kept=trained, why=trained.told, notes=[]) if trained else usual
        return replace(usual, notes=[*usual.notes, note])
    if judge is None:
        kept = candidates.get("dual")
        return Choice(kept, "activations on dreams and weights, beside the prediction", [note], slack)
    usual = _by_slack(candidates, slack)
    made = {usual.kept.name: usual.kept} | {name: candidates.get(name) for name in _ON_DREAMS}
    losses = {name: finite_loss(judge(candidate.element)) for name, candidate in made.items()}
    best = min(made, key=losses.__getitem__)
    why = f"half-way its outputs are the nearest to the parents' on dreams, {losses[best]:.4g}"
    return Choice(made[best], why, [*(usual.notes if best == usual.kept.name else []), note], slack)


def _by_slack(candidates: Candidates, slack: float) -> Choice:
    """What to keep by what the weights say."""
    if candidates.flips:
        return Choice(
            candidates.get("weights"), "units may change their signs, which weights tell best", [], slack
        )
    removed = (
        f"a step of weight matching would remove {100 * slack:.0f} % of the squared distance that is left"
    )
    if slack <= MOST_SLACK:
        return Choice(candidates.get("prior"), f"weights and prediction agree: {removed}", [], slack)
    note = f"these networks are unlike those that the aligner knows, so weight matching decides: {removed}"
    return Choice(candidates.get("weights"), f"weights and prediction disagree: {removed}", [note], slack)
