"""What a caller in Python gives, as the settings that the command line has."""

from __future__ import annotations

import pytest
import torch

from deepalign_cli.api.arguments import settings_of


@pytest.mark.parametrize("shape", ["3x32x32", (3, 32, 32), [3, 32, 32], torch.Size((3, 32, 32))])
def test_a_shape_may_be_text_or_sizes(shape: object) -> None:
    _, running = settings_of(["weights"], {"input_shape": shape})

    assert running == {"input_shape": "3x32x32"}
