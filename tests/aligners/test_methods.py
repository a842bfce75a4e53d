from __future__ import annotations

import subprocess
import sys

import pytest

from deepalign_cli.aligners.activations import ActivationMatching
from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.dual import DualMatching
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.methods import DEFAULT, METHODS, DataUse
from deepalign_cli.errors import UsageError
from tests.aligners.builders import mlp_run

EVIDENCE = Evidence(mlp_run, list)


@pytest.mark.parametrize("name", METHODS)
def test_every_row_makes_an_aligner(name: str) -> None:
    row = METHODS[name]
    assert row.name == name
    assert row.help
    uses_data = row.data is not DataUse.NONE
    assert isinstance(row.make({}, EVIDENCE if uses_data else None), Aligner)
    if row.data is not DataUse.REQUIRED:
        assert isinstance(row.make({}), Aligner)


def test_there_are_these_methods() -> None:
    assert {"deepalign", "weights", "activations", "dual", "none"} <= set(METHODS)
    assert DEFAULT in METHODS
    with pytest.raises(UsageError, match="there is no method 'magic'") as caught:
        METHODS.find("magic")
    assert "`deepalign methods`" in caught.value.hint


def test_options_reach_the_aligner_and_are_checked() -> None:
    dual = METHODS["dual"].make({"share": 0.3, "restarts": 5}, EVIDENCE)  # each takes its own
    assert isinstance(dual, DualMatching)
    assert (dual.share, dual.evidence) == (0.3, EVIDENCE)
    with pytest.raises(UsageError, match=r"--share is 1\.5"):
        METHODS["dual"].make({"share": 1.5}, EVIDENCE)
    with pytest.raises(UsageError, match="leaves nothing to mix"):
        METHODS["dual"].make({"share": 1.0}, EVIDENCE)


def test_data_are_needed_as_the_options_say() -> None:
    learned = METHODS["deepalign"]
    uses = [learned.data_use(given) for given in ({}, {"refine": "none"}, {"refine": "activations"})]
    assert uses == [DataUse.OPTIONAL, DataUse.NONE, DataUse.REQUIRED]
    with pytest.raises(UsageError, match="-m activations needs data"):
        METHODS["activations"].make({})
    with pytest.raises(UsageError, match="--refine activations needs data"):
        learned.make({"refine": "activations"})
    assert isinstance(METHODS["activations"].make({}, EVIDENCE), ActivationMatching)


def test_the_table_loads_no_torch() -> None:
    tables = "deepalign_cli.aligners.methods, deepalign_cli.combiners.table"
    code = f"import sys, {tables}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
