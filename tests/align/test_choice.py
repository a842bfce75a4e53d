"""The choice without data: a prediction that the weights bear out is kept, another is left to the weights."""

from __future__ import annotations

import torch

from deepalign_cli.align.choice import MOST_SLACK, NAMES, Candidate, choose
from deepalign_cli.symmetry.element import Element


class Made:
    """Candidates of a given slack that remember which of them were asked for."""

    def __init__(self, slack: float = 0.0) -> None:
        self.asked: list[str] = []
        self._slack = slack

    def get(self, name: str) -> Candidate:
        self.asked.append(name)
        return Candidate(name, Element({"h": torch.tensor([NAMES.index(name)])}), 1.0)

    def slack(self) -> float:
        return self._slack


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


def test_with_data_the_best_half_way_is_kept() -> None:
    losses = [0.3, 0.1, 0.2]
    choice = choose(Made(1.0), lambda element: losses[int(element.perm["h"])])
    assert (choice.kept.name, choice.notes, choice.slack) == ("prior", [], None)
    assert "0.1" in choice.why
