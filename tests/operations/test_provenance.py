from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import DeepalignError
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import merge_files
from deepalign_cli.operations.provenance import Hashes, provenance, with_hashes
from deepalign_cli.operations.settings import Settings
from deepalign_cli.symmetry.resolve import resolve_spec
from tests.operations.making import align_files, metadata, network, pair, save, sha256

NONE = Settings("none")


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
    spec, facts = resolve_spec(a), {"command": "merge", "weights": [0.5, 0.5], "seed": 3}
    made = provenance(a, [a, b], spec, facts, whole_spec=False)
    filled = with_hashes(made, ["1" * 64, "2" * 64])

    assert list(made) == list(filled)
    assert len(json.dumps(made)) == len(json.dumps(filled))
    assert filled["deepalign.sha256.1"] == "2" * 64
    assert (made["deepalign.command"], made["deepalign.weights"], made["deepalign.seed"]) == (
        "merge", "[0.5, 0.5]", "3",
    )  # fmt: skip
    assert "deepalign.spec" not in made
    assert made["deepalign.spec.basis"] == "read from names and shapes"
    assert json.loads(made["deepalign.spec.assumptions"]) == list(spec.assumptions)


def test_what_an_earlier_run_wrote_is_replaced(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    once, twice = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    merge_files(Job((a, b), once, NONE))
    align_files(Job((a, once), twice, NONE))

    told = metadata(twice)
    assert told["deepalign.command"] == "align"
    assert "deepalign.weights" not in told
    assert told["deepalign.sha256.1"] == sha256(once)
