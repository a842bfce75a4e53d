from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepalign_cli.combiners.rules import parse_rule
from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.errors import DeepalignError, OutputError, UsageError
from deepalign_cli.operations.dry_run import plan_merge
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import Merging, merge_files
from deepalign_cli.operations.settings import Settings
from tests.operations.making import metadata, pair, save, tensors

NONE = Settings("none")


def test_the_plan_is_what_the_merge_does_and_nothing_is_written(tmp_path: Path) -> None:
    job = Job(
        pair(tmp_path, "plain_cnn_bn"), tmp_path / "o.safetensors", Settings("weights", {"restarts": 1})
    )
    merging = Merging((3, 1), "slerp", rules=(parse_rule("weight=0.1", COMBINERS["slerp"], 2),))
    before = sorted(tmp_path.iterdir())
    plan = plan_merge(job, merging)
    assert sorted(tmp_path.iterdir()) == before

    report = merge_files(job, merging)
    made, told = tensors(job.output), metadata(job.output)
    assert {t.name: t.shape for t in plan.tensors} == {name: tuple(w.shape) for name, w in made.items()}
    assert plan.bytes == sum(w.nbytes for w in made.values()) == report.bytes
    assert plan.groups == {name: group["size"] for name, group in report.groups.items()}
    assert [name for name, _ in plan.inputs] == [told["deepalign.input.0"], told["deepalign.input.1"]]
    weights = {t.name: t.weights for t in plan.tensors}
    for name, own in weights.items():
        expected = None if "num_batches" in name else (0.9, 0.1) if "weight" in name else (0.75, 0.25)
        assert own == expected
    assert len(set(weights.values())) == 3


def test_what_would_be_refused_is(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    there = save({"w": torch.ones(1)}, tmp_path / "there.safetensors")
    for job, merging, kind in (
        (Job((a, b), there, NONE), Merging(), OutputError),
        (Job((a, b), tmp_path / "o", NONE), Merging((1, 1, 1)), UsageError),
        (Job((a, there), tmp_path / "o", NONE), Merging(), DeepalignError),
        (Job((a, b), tmp_path / "o", NONE), Merging(combiner="della", options={"density": 0.1}), UsageError),
    ):
        with pytest.raises(DeepalignError) as caught:
            plan_merge(job, merging)
        assert isinstance(caught.value, kind | UsageError)
    with pytest.raises(UsageError):
        plan_merge(Job((a, b), a, NONE), Merging(), is_folder=True)


def test_without_alignment_or_weights_there_are_none(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    plan = plan_merge(Job((a, b, b), tmp_path / "o", NONE), Merging((1, 1), "model_stock"))
    assert (plan.groups, plan.method, plan.has_base, plan.facts["combine"]) == (
        None,
        "none",
        True,
        "model_stock",
    )
    assert {t.weights for t in plan.tensors} == {None}
