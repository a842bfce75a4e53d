from __future__ import annotations

from pathlib import Path

import pytest

from deepalign_cli.errors import UsageError
from deepalign_cli.operations.demo import run_demo
from deepalign_cli.progress import Progress
from tests.operations.making import tensors


def test_the_demo_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    shares: list[float] = []
    result = run_demo(
        tmp_path / "o.safetensors", progress=Progress(lambda share, label: shares.append(share))
    )

    assert result.images >= 200
    assert all(0 < score < 1 for score in result.accuracies.values())
    assert result.report.output == tmp_path / "o.safetensors"
    assert tensors(tmp_path / "o.safetensors")
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    with pytest.raises(UsageError, match="exists"):
        run_demo(tmp_path / "o.safetensors")
