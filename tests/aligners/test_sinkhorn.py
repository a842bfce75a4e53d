from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.choice import Judge
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.aligners.sinkhorn import SinkhornRebasin
from deepalign_cli.errors import DataError
from deepalign_cli.measure.paths import mix
from deepalign_cli.progress import Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from tests import nets
from tests.aligners.builders import mlp_run, trained
from tests.cli.subjects import given, refused
from tests.operations.making import apart, deepalign, metadata, pair
from tests.symmetry.builders import seeded


class Task:
    """The inputs that the networks of `trained` were trained on, with the first one's answers as labels."""

    def __init__(self, teacher: Weights) -> None:
        torch.manual_seed(9)
        self.x = torch.randn(512, 12)
        self.labels = mlp_run(teacher, self.x).argmax(1)

    def __len__(self) -> int:
        return len(self.x)

    def __call__(self, weights: Weights, places: Tensor) -> Tensor:
        return functional.cross_entropy(mlp_run(weights, self.x[places]), self.labels[places]).double()

    def judging(self, symmetry: Symmetry, reference: Weights, moving: Weights) -> Judge:
        def judge(element: Element) -> float:
            middle = mix(reference, symmetry.apply(element, moving), 0.5)
            return float(self(middle, torch.arange(len(self))))

        return judge

    @property
    def evidence(self) -> Evidence:
        return Evidence(mlp_run, lambda: [self.x], self.judging, self)


@pytest.mark.slow
def test_training_lowers_the_midpoint_loss_from_scratch() -> None:
    symmetry, a, b = trained()
    task = Task(a)
    aligner = SinkhornRebasin(task.evidence, steps=60, start="scratch")
    assert isinstance(aligner, Aligner)
    told: list[float] = []
    alignment = aligner(symmetry, a, b, rng=seeded(0), progress=Progress(lambda share, _: told.append(share)))

    judge = task.judging(symmetry, a, b)
    naive, kept = judge(symmetry.identity()), judge(alignment.element)
    assert kept < 0.6 * naive
    assert alignment.details == {
        "steps": 60, "midpoint_loss_before": pytest.approx(naive), "midpoint_loss_after": pytest.approx(kept)
    }  # fmt: skip
    assert len(alignment.objective) == 60
    assert told[-1] == pytest.approx(1.0)


@pytest.mark.slow
def test_from_the_prediction_it_is_never_worse_than_the_prediction() -> None:
    symmetry, a, b = trained()
    task = Task(a)
    aligner = SinkhornRebasin(task.evidence, steps=10)
    alignment = aligner(symmetry, a, b, rng=seeded(0))
    prediction = aligner._started(symmetry, a, b, seeded(0), Progress())

    judge = task.judging(symmetry, a, b)
    assert judge(alignment.element) <= judge(prediction)
    assert alignment.details["midpoint_loss_before"] == pytest.approx(judge(prediction))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_alignment_and_temperature_counts() -> None:
    symmetry, a, b = trained()
    evidence = Task(a).evidence

    def losses(seed: int, temperature: float = 1.0) -> tuple[float, ...]:
        aligner = SinkhornRebasin(evidence, 5, temperature, "scratch")
        return aligner(symmetry, a, b, rng=seeded(seed)).objective

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert losses(1)[0] == losses(1, 0.2)[0]  # uniform matrices at any temperature
    assert losses(1)[1:] != losses(1, 0.2)[1:]


def test_without_a_loss_there_is_nothing_to_train_on() -> None:
    symmetry, a, b = trained()
    with pytest.raises(DataError, match="trains on a loss"):
        SinkhornRebasin(Evidence(mlp_run, lambda: [torch.randn(4, 12)]), start="scratch")(
            symmetry, a, b, rng=seeded(0)
        )


def test_the_table_says_what_it_needs() -> None:
    row = METHODS["sinkhorn"]
    assert row.data.value == "required"
    assert [parameter.option for parameter in row.parameters] == ["--steps", "--temperature", "--start"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["named_mlp", "plain_cnn_bn"])
@pytest.mark.parametrize("start", ["prediction", "scratch"])
def test_on_the_command_line_the_output_is_the_same_function(kind: str, start: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path, kind)
    out = tmp_path / "out.safetensors"
    how = ("-m", "sinkhorn", "--steps", 3, "--temperature", 0.5, "--start", start, *given(tmp_path, kind))
    done = deepalign("align", a, b, "-o", out, *how, "--json")

    assert (done.code, done.err) == (0, "")
    module, shape = nets.ALL[kind]()
    assert apart(module.eval(), b, out, shape) <= 1e-5
    told = metadata(out)
    assert {k: told[f"deepalign.{k}"] for k in ("method", "steps", "temperature", "start")} == {
        "method": "sinkhorn", "steps": "3", "temperature": "0.5", "start": start
    }  # fmt: skip


@pytest.mark.slow
def test_what_it_cannot_do_is_said_in_one_sentence(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    refused(deepalign("align", a, b, "-m", "sinkhorn"), 2, "-m sinkhorn needs data")
    refused(deepalign("align", a, b, "-m", "weights", "--steps", 3), 2, "-m weights makes no use of --steps")
    refused(deepalign("align", a, b, "-m", "sinkhorn", "--start", "x", *given(tmp_path)), 2, "--start is 'x'")
