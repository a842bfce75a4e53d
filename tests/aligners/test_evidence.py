from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from deepalign_cli.aligners.activations import ActivationMatching
from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.choice import Judge
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.symmetry.element import Element
from tests.aligners.builders import mlp_run, trained
from tests.symmetry.builders import same_element, seeded


def test_evidence_is_gathered_once_a_pair() -> None:
    symmetry, a, b = trained()
    asked = 0

    def batches() -> Iterable[Tensor]:
        nonlocal asked
        asked += 1
        return [torch.randn(50, 12, generator=seeded(3))]

    evidence = Evidence(mlp_run, batches)
    methods = [ActivationMatching(evidence), ActivationMatching(evidence)]
    assert all(isinstance(method, Aligner) for method in methods)
    first, second = (method(symmetry, a, b, rng=seeded(0)) for method in methods)
    assert same_element(first.element, second.element)
    assert asked == 1
    methods[0](symmetry, b, a, rng=seeded(0))
    assert asked == 2


def test_the_judge_is_made_for_the_pair_where_a_loss_is_known() -> None:
    symmetry, a, b = trained()
    asked: list[tuple[object, ...]] = []

    def judging(*pair: object) -> Judge:
        asked.append(pair)
        return lambda element: float(element.moved("fc"))

    judge = Evidence(mlp_run, list, judging).judge(symmetry, a, b)
    assert judge is not None
    assert judge(Element({"fc": torch.tensor([1, 0, 2])})) == 2
    assert asked == [(symmetry, a, b)]
    assert Evidence(mlp_run, list).judge(symmetry, a, b) is None
