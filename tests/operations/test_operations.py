from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepalign_cli.aligners.artifact import ALIGNMENT_KEY
from deepalign_cli.aligners.deepalign import LearnedAligner, Refine
from deepalign_cli.aligners.none import NoAlignment
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import DeepalignError, MismatchError, NonFiniteError, UsageError
from deepalign_cli.network.saved import NETWORK_KEY
from deepalign_cli.operations.alignments import Found
from deepalign_cli.operations.combine import Job, align_each, align_files, merge_files
from deepalign_cli.operations.demo import run_demo
from deepalign_cli.operations.inputs import OTHER_KINDS
from deepalign_cli.operations.provenance import Hashes, provenance, with_hashes
from deepalign_cli.operations.settings import Method, Settings, check_finite, is_finite
from deepalign_cli.operations.verify import default_tolerance, verify_files
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.operations.making import metadata, network, pair, save, sha256, tensors

NONE = Settings(method=Method.NONE)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_is_finite(dtype: torch.dtype) -> None:
    big = torch.full((9,), torch.finfo(dtype).max, dtype=dtype)
    assert is_finite(big)  # though the sum is not
    assert is_finite(torch.zeros(0, dtype=dtype))
    for value in (math.nan, math.inf, -math.inf):
        bad = torch.zeros(9, dtype=dtype)
        bad[4] = value
        assert not is_finite(bad)
    assert not is_finite(torch.tensor([math.inf, -math.inf], dtype=dtype))


def test_settings_choose_the_aligner() -> None:
    assert isinstance(NONE.aligner(), NoAlignment)
    assert isinstance(Settings(Method.WEIGHTS).aligner(), WeightMatching)
    chosen = Settings(refine=Refine.PRIOR, sketches=3).aligner()
    assert isinstance(chosen, LearnedAligner)
    assert (chosen.name, chosen.refine, chosen.sketches) == ("universal-v1", Refine.PRIOR, 3)
    assert Settings(seed=3).rng().initial_seed() == 3


def test_other_kinds_of_files_are_known_by_the_keys_that_they_are_written_with() -> None:
    assert set(OTHER_KINDS) == {ALIGNMENT_KEY, NETWORK_KEY}


def test_infinite_weights_are_found(tmp_path: Path) -> None:
    for path in pair(tmp_path):
        check_finite(open_checkpoint(path))
    with pytest.raises(NonFiniteError, match=r"'w' in '.*bad\.pt' holds NaN or Inf"):
        check_finite(
            open_checkpoint(save({"n": torch.arange(3), "w": torch.tensor(math.nan)}, tmp_path / "bad.pt"))
        )


# --- provenance -----------------------------------------------------------------------------------


def test_hashes(tmp_path: Path) -> None:
    files = pair(tmp_path)
    with Hashes([open_checkpoint(path) for path in files]) as hashes:
        assert hashes.values() == tuple(map(sha256, files))


def test_an_input_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    opened = open_checkpoint(a)
    save(network("named_mlp", 7), a)
    with pytest.raises(DeepalignError), Hashes([opened, open_checkpoint(b)]) as hashes:
        hashes.values()


def test_some_hashes(tmp_path: Path) -> None:
    files = pair(tmp_path)
    with Hashes([open_checkpoint(path) for path in files]) as hashes:
        assert hashes.of(1)() == (sha256(files[1]),)


def test_metadata_keep_their_length_when_the_hashes_come(tmp_path: Path) -> None:
    a, b = (open_checkpoint(path) for path in pair(tmp_path))
    made = provenance(a, [a, b], None, {"command": "merge", "weights": [0.5, 0.5], "seed": 3})
    filled = with_hashes(made, ["1" * 64, "2" * 64])

    assert list(made) == list(filled)
    assert len(json.dumps(made)) == len(json.dumps(filled))
    assert filled["deepalign.sha256.1"] == "2" * 64
    assert (made["deepalign.command"], made["deepalign.weights"], made["deepalign.seed"]) == (
        "merge", "[0.5, 0.5]", "3",
    )  # fmt: skip
    assert "deepalign.spec" not in made


def test_what_an_earlier_run_wrote_is_replaced(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    once, twice = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    merge_files(Job((a, b), once, NONE))
    align_files(Job((a, once), twice, NONE))

    told = metadata(twice)
    assert told["deepalign.command"] == "align"
    assert "deepalign.weights" not in told
    assert told["deepalign.sha256.1"] == sha256(once)


# --- align and merge ------------------------------------------------------------------------------


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    steps: list[float] = []
    report = merge_files(Job((a, b), tmp_path / "o", NONE), advance=steps.append)

    assert sum(steps) == report.bytes == sum(w.nbytes for w in torch.load(a).values())
    assert len(steps) == len(torch.load(a))


def test_progress_counts_every_byte_of_every_output(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    steps: list[float] = []
    outputs = [tmp_path / "new" / name for name in ("1", "2")]
    job = Job((a, b, save(network("named_mlp", 2), tmp_path / "c.pt")), tmp_path / "new", NONE)
    reports = align_each(job, outputs, advance=steps.append)

    assert [report.output for report in reports] == outputs
    assert sum(steps) == sum(report.bytes for report in reports)
    assert [sha256(out) != sha256(b) for out in outputs] == [True, True]


def test_weights_must_fit_the_inputs(tmp_path: Path) -> None:
    job = Job(pair(tmp_path), tmp_path / "o", NONE)
    for weights in ([1.0], [1.0, 1.0, 1.0], [0.0, 0.0], [-1.0, 2.0], [math.nan, 1.0]):
        with pytest.raises(UsageError):
            merge_files(job, weights)
    assert not (tmp_path / "o").exists()


def test_weights_are_normalised(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    merge_files(Job((a, b), tmp_path / "1", NONE), [3.0, 1.0])
    merge_files(Job((a, b), tmp_path / "2", NONE), [0.75, 0.25])

    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_nan_is_found_while_a_saved_alignment_is_used(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    align_files(Job((a, b), tmp_path / "1", save=tmp_path / "kept"))
    state = torch.load(b)
    state["fc3.bias"][0] = math.nan
    save(state, b)
    job = Job((a, b), tmp_path / "2", replace(NONE, force=True), alignments=(tmp_path / "kept",))

    with pytest.raises(NonFiniteError, match=r"'fc3\.bias' in '.*b\.pt'"):
        align_files(job)
    assert not (tmp_path / "2").exists()


def test_a_found_element_knows_whose_it_is() -> None:
    found = Found(Symmetry(Spec({}), {}), Element({}), "weights", (1.0, 0.5), ("1", "2"))
    found.check_hashes("1", "2")
    with pytest.raises(MismatchError, match="another reference"):
        found.check_hashes("3", "2")
    with pytest.raises(MismatchError, match="another moving input"):
        found.check_hashes("1", "3")
    replace(found, hashes=None).check_hashes("3", "4")


# --- verify and demo ------------------------------------------------------------------------------


def test_the_tolerance_is_that_of_the_coarsest_type(tmp_path: Path) -> None:
    def tolerance(*dtypes: torch.dtype) -> float:
        state = {str(i): torch.ones(2, dtype=dtype) for i, dtype in enumerate(dtypes)}
        return default_tolerance(open_checkpoint(save(state, tmp_path / "x.pt")))

    assert tolerance(torch.int64) == 0
    assert tolerance(torch.float64) < tolerance(torch.float32) < tolerance(torch.float16)
    assert tolerance(torch.float64, torch.bfloat16) == tolerance(torch.bfloat16) == 0.125


def test_verify_leaves_the_callers_settings(tmp_path: Path) -> None:
    a, _ = pair(tmp_path)
    settings = Settings()
    verdict = verify_files(a, a, settings)

    assert (verdict.same, verdict.residual, verdict.worst, verdict.spec) == (True, 0, "", None)
    assert settings == Settings()


def test_the_demo_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    result = run_demo(tmp_path / "o.safetensors")

    assert result.images >= 200
    assert all(0 < score < 1 for score in result.accuracies.values())
    assert result.report.output == tmp_path / "o.safetensors"
    assert tensors(tmp_path / "o.safetensors")
    with pytest.raises(UsageError, match="exists"):
        run_demo(tmp_path / "o.safetensors")
