from __future__ import annotations

from pathlib import Path

import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.verify import default_tolerance, verify_session
from tests.operations.making import pair, save


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
    verdict = verify_session(Session([a, a], settings))

    assert (verdict.same, verdict.residual, verdict.worst, verdict.spec) == (True, 0, "", None)
    assert settings == Settings()
