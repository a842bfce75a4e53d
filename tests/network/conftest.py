from __future__ import annotations

import pytest

from deepalign_cli.network.model import DeepAlign
from tests.network.builders import ALIGNERS, aligner


@pytest.fixture(params=ALIGNERS)
def model(request: pytest.FixtureRequest) -> DeepAlign:
    """Every aligner that there is: untrained and, where it is there, the shipped one."""
    return aligner(request.param)
