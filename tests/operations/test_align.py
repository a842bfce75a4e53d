from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepalign_cli.errors import NonFiniteError
from deepalign_cli.operations.align import align_each
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import Progress
from tests.operations.making import align_files, network, pair, save, sha256

NONE = Settings("none")


def test_every_moving_input_is_written_to_its_own_file(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    shares: list[float] = []
    outputs = [tmp_path / "new" / name for name in ("1", "2")]
    job = Job((a, b, save(network("named_mlp", 2), tmp_path / "c.pt")), tmp_path / "new", NONE)
    reports = align_each(job, outputs, Progress(lambda share, label: shares.append(share)))

    assert [report.output for report in reports] == outputs
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert [sha256(out) != sha256(b) for out in outputs] == [True, True]


@pytest.mark.slow
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
