"""The choice without data: a sure prediction is kept, an unsure one is left to the weights."""

from __future__ import annotations

import torch

from deepalign_cli.align.choice import KNOWN, Candidate, Prediction, choose
from deepalign_cli.symmetry.element import Element


class Made:
    """Candidates that say which of them were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get(self, name: str) -> Candidate:
        self.asked.append(name)
        return Candidate(name, Element({}), 1.0)


def prediction(sure: float, n: int = 20) -> Prediction:
    """Similarities of which the share `sure` of the units are each other's nearest."""
    similar = torch.full((n, n), 0.5)
    similar[: round(sure * n)] = torch.eye(n)[: round(sure * n)]
    similar[round(sure * n) :, 0] = 0.9  # the others all like the first unit best, which likes its own
    return Prediction({"h": similar}, Element({"h": torch.arange(n)}))


def test_agreement_is_the_share_of_mutual_neighbours() -> None:
    assert prediction(1.0).agreement == 1.0
    assert prediction(0.6).agreement == 0.6
    assert Prediction({}, Element({})).agreement == 1.0


def test_a_sure_prediction_is_refined_with_itself_as_the_prior() -> None:
    made = Made()
    kept, why, notes = choose(prediction((1 + KNOWN) / 2), made)
    assert (kept.name, notes, made.asked) == ("prior", [], ["prior"])
    assert "sure" in why


def test_an_unsure_prediction_is_only_a_start_and_the_user_is_told() -> None:
    made = Made()
    kept, why, notes = choose(prediction(KNOWN / 2), made)
    assert (kept.name, made.asked) == ("weights", ["weights"])
    assert "unsure" in why
    assert len(notes) == 1


def test_with_data_the_best_half_way_is_kept() -> None:
    names = {"none": 0, "prior": 1, "weights": 2}

    class Named(Made):
        def get(self, name: str) -> Candidate:
            return Candidate(name, Element({"h": torch.tensor([names[name]])}), 1.0)

    kept, why, notes = choose(
        prediction(1.0), Named(), lambda element: [0.3, 0.1, 0.2][int(element.perm["h"])]
    )
    assert (kept.name, notes) == ("prior", [])
    assert "0.1" in why
