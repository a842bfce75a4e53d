from __future__ import annotations

from pathlib import Path

import pytest

from deepalign_cli.aligners.artifact import ALIGNMENT_KEY
from deepalign_cli.errors import CheckpointError
from deepalign_cli.network.saved import NETWORK_KEY
from deepalign_cli.operations.inputs import OTHER_KINDS, open_network
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.settings import Settings
from tests.operations.making import align_files, aligner, network, pair, save


def test_other_kinds_of_files_are_known_by_the_keys_that_they_are_written_with() -> None:
    assert set(OTHER_KINDS) == {ALIGNMENT_KEY, NETWORK_KEY}


def test_an_alignment_is_no_network(tmp_path: Path) -> None:
    kept = tmp_path / "ab.alignment"
    align_files(Job(pair(tmp_path), tmp_path / "o", Settings("none"), save=kept))
    with pytest.raises(CheckpointError, match="is a saved alignment"):
        open_network(kept)
    with pytest.raises(CheckpointError, match="is an aligner network"):
        open_network(aligner(tmp_path / "aligner.safetensors"))
    assert open_network(save(network("named_mlp", 0), tmp_path / "n.pt"))
