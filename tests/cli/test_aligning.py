"""Which options on aligning and data go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.subjects import (
    refused,
)
from tests.operations.making import deepalign, pair


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--plot", "c.png"], "--plot needs losses"),
        (["--csv", "c.csv"], "--csv needs losses"),
        (["--max-barrier", "1"], "--max-barrier needs losses"),
        (["--max-barrier", "0"], "--max-barrier needs losses"),
        (["--repair"], "--repair needs losses"),
        (["-m", "activations"], "-m activations looks at data"),
        (["-m", "weights", "-m", "dual"], "-m dual looks at data"),
        (["--refine", "activations"], "--refine activations looks at data"),
        (["--limit", "3"], "without --data, --limit has no effect"),
        (["--split", "test"], "without --data, --split has no effect"),
        (["--model", "x.py:make"], "without --data, --model has no effect"),
        (["--grey"], "without --data, --grey has no effect"),
        (["--batch-size", "3"], "without --data, --batch-size has no effect"),
    ],
)
def test_what_needs_data_says_so(args: list[str], message: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    refused(deepalign("barrier", a, b, *args), 2, message)
