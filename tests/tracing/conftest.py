"""Settings of the tracer's tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def double() -> Iterator[None]:
    """New tensors in float64, and attention in its parts."""
    torch.set_default_dtype(torch.float64)
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.set_default_dtype(torch.float32)
    torch.backends.mha.set_fastpath_enabled(True)
