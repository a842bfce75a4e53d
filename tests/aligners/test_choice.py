"""The choice: by data where there are any, else by whether the weights bear the prediction out."""

from __future__ import annotations

import math

import pytest
import torch

from deepalign_cli.aligners.choice import MOST_SLACK, Candidate, Judge, OnDreams, choose
from deepalign_cli.aligners.refinements import REFINEMENTS
from deepalign_cli.symmetry.element import Element

NAMES = tuple(row.name for row in REFINEMENTS.values() if not row.data)
SEEING = tuple(row.name for row in REFINEMENTS.values() if row.data and not row.slow)


class Made:
    """Candidates of a given slack that remember which of them were asked for."""

    before = 1.0

    def __init__(
        self, slack: float = 0.0, names: tuple[str, ...] = NAMES, distance: float = 1.0,
        planted: bool = False, dreams: OnDreams | None = None, flips: bool = False, trains: bool = False,
    ) -> None:  # fmt: skip
        self.asked: list[str] = []
        self.flips = flips
        self._slack, self.names, self._distance, self._planted = slack, names, distance, planted
        self._dreams, self._trains = dreams, trains

    def get(self, name: str) -> Candidate:
        self.asked.append(name)
        return Candidate(name, Element({"h": torch.tensor([self.names.index(name)])}), self._distance)

    def planted(self) -> Candidate | None:
        return self.get("weights") if self._planted else None

    def slack(self) -> float:
        return self._slack

    def dream(self) -> OnDreams | None:
        if self._dreams:
            self.names = (*NAMES, *SEEING)
        return self._dreams

    def trained(self, start: Candidate) -> Candidate | None:
        """Its element is one less than that of the start."""
        self.asked.append(f"train {start.name}")
        element = Element({"h": start.element.perm["h"] - 1})
        return Candidate("ste", element, self._distance, "training helped") if self._trains else None


def test_a_prediction_that_the_weights_bear_out_is_refined_as_a_prior() -> None:
    made = Made(MOST_SLACK / 2)
    choice = choose(made)
    assert (choice.kept.name, choice.notes, made.asked) == ("prior", [], ["prior"])
    assert "15 %" in choice.why
    assert choice.slack == MOST_SLACK / 2


def test_one_that_they_contradict_is_left_to_them_and_the_user_is_told() -> None:
    made = Made(2 * MOST_SLACK)
    choice = choose(made)
    assert (choice.kept.name, made.asked) == ("weights", ["weights"])
    assert "disagree" in choice.why
    assert len(choice.notes) == 1
    assert "60 %" in choice.notes[0]


def test_where_units_may_flip_the_weights_decide() -> None:
    made = Made(MOST_SLACK / 2, flips=True)
    choice = choose(made)
    assert (choice.kept.name, choice.notes, made.asked) == ("weights", [], ["weights"])
    assert "signs" in choice.why


def test_one_that_the_weights_would_not_change_is_not_refined() -> None:
    made = Made(0.0)
    choice = choose(made)
    assert (choice.kept.name, choice.notes, choice.slack, made.asked) == ("none", [], 0.0, ["none"])


def test_where_one_is_a_copy_of_the_other_nothing_else_is_tried() -> None:
    made = Made(1.0, planted=True)
    choice = choose(made)
    assert (choice.kept.name, choice.notes, choice.slack, made.asked) == ("weights", [], None, ["weights"])
    assert "nearly A" in choice.why


@pytest.mark.parametrize("slack", [0.0, MOST_SLACK / 2, 2 * MOST_SLACK])
def test_b_farther_from_a_than_it_was_is_told_with_what_else_can_be_done(slack: float) -> None:
    note = choose(Made(slack, distance=1.05)).notes[-1]
    assert "was 1, now 1.05" in note
    assert "-m weights" in note
    assert "--data" in note


def test_with_data_the_distance_is_of_no_account() -> None:
    assert choose(Made(distance=2.0), lambda element: 0.0).notes == []
    assert choose(Made(1.0, (*NAMES, *SEEING), distance=2.0)).notes == []


def test_with_data_the_best_half_way_is_kept() -> None:
    losses = [0.3, 0.1, 0.2]
    choice = choose(Made(1.0), lambda element: losses[int(element.perm["h"])])
    assert (choice.kept.name, choice.notes, choice.slack) == ("prior", [], None)
    assert "0.1" in choice.why


def test_with_evidence_and_a_judge_every_candidate_is_tried() -> None:
    losses = [0.3, math.nan, 0.2, 0.1, math.inf, 0.15, 0.12]
    made = Made(names=(*NAMES, *SEEING))
    choice = choose(made, lambda element: losses[int(element.perm["h"])])
    assert made.asked == [*NAMES, *SEEING, "train activations"]
    assert choice.kept.name == "activations"


def test_losses_that_are_not_numbers_are_the_worst() -> None:
    losses = [math.nan, math.nan, 7.0]
    choice = choose(Made(), lambda element: losses[int(element.perm["h"])])
    assert choice.kept.name == "weights"


def test_evidence_without_a_judge_keeps_what_uses_it_all() -> None:
    choice = choose(Made(1.0, (*NAMES, *SEEING)))
    assert (choice.kept.name, choice.notes, choice.slack) == ("dual", [], None)


def _prefers(name: str) -> Judge:
    """A judge that likes one candidate, and the others the less the later they stand."""
    places = [*NAMES, *SEEING]
    return lambda element: 0.0 if places[int(element.perm["h"][0])] == name else 1.0


@pytest.mark.parametrize("name", ["prior", *SEEING])
def test_on_dreams_the_usual_candidate_and_those_that_look_are_judged(name: str) -> None:
    made = Made(MOST_SLACK / 2, dreams=OnDreams("8 blobs", _prefers(name)))
    choice = choose(made)

    assert choice.kept.name == name
    assert set(made.asked) == {"prior", *SEEING}
    assert "on dreams" in choice.why
    assert "inputs were dreamed: 8 blobs" in choice.notes[0]


def test_where_dreams_show_nothing_the_one_that_uses_it_all_is_kept() -> None:
    made = Made(MOST_SLACK / 2, dreams=OnDreams("8 texts"))
    choice = choose(made)

    assert (choice.kept.name, made.asked) == ("dual", ["dual"])


def test_nothing_is_dreamed_where_nothing_is_in_doubt() -> None:
    for made in (
        Made(0.0, dreams=OnDreams("x", _prefers("dual"))),
        Made(1.0, planted=True, dreams=OnDreams("x", trains=True)),
    ):
        assert choose(made).kept.name in ("none", "weights")
        assert len(made.asked) == 1


def test_on_dreams_that_are_fit_for_it_the_usual_candidate_is_trained() -> None:
    made = Made(MOST_SLACK / 2, dreams=OnDreams("900 classes", trains=True), trains=True)
    choice = choose(made)

    assert (choice.kept.name, made.asked) == ("ste", ["prior", "train prior"])
    assert choice.why == "training helped"
    assert "inputs were dreamed: 900 classes" in choice.notes[0]


def test_where_training_does_not_help_the_usual_candidate_is_kept() -> None:
    choice = choose(Made(2 * MOST_SLACK, dreams=OnDreams("900 classes", trains=True)))

    assert choice.kept.name == "weights"
    assert "disagree" in choice.why
    assert len(choice.notes) == 2


@pytest.mark.parametrize(("loss", "kept"), [(0.2, "ste"), (0.4, "none")])
def test_on_data_what_was_trained_is_judged_as_well(loss: float, kept: str) -> None:
    losses = {0: 0.3, 1: 0.5, 2: 0.6, -1: loss}
    made = Made(trains=True)
    assert choose(made, lambda element: losses[int(element.perm["h"])]).kept.name == kept
    assert choose(made, lambda element: losses[int(element.perm["h"])], trains=False).kept.name == "none"
    assert made.asked.count("train none") == 1
