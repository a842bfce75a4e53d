"""`deepalign methods`."""

from __future__ import annotations

import pytest

from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.combiners.table import COMBINERS
from tests.docs.test_cli_reference import documented
from tests.operations.making import deepalign


def test_every_row_is_listed() -> None:
    done = deepalign("methods")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    for rows in (METHODS, COMBINERS):
        for name, row in rows.items():
            (line,) = [line for line in lines if line.startswith(f"{name} ")]
            assert row.help in line
            assert row.paper in line
            assert all(parameter.option in line for parameter in row.parameters)
    assert deepalign("methods", "-q").out == ""


def test_json_has_what_scripts_rely_on() -> None:
    told = deepalign("methods", "--json").json
    assert set(told) == documented("methods") | {"schema", "command"}
    assert [row["name"] for row in told["methods"]] == list(METHODS)
    assert [row["name"] for row in told["combiners"] if row["default"]] == ["linear"]
    learned = told["methods"][0]
    assert (learned["name"], learned["default"], learned["data"]) == ("deepalign", True, "optional")
    assert {key: value for key, value in learned["options"][2].items() if key != "help"} == {
        "option": "--sketches",
        "default": 8,
    }


def test_a_row_that_could_not_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "problems", ["The method 'x' (a:b) was left out: no."])
    assert "note: The method 'x' (a:b) was left out: no." in deepalign("methods").err
    assert deepalign("methods", "--json").json["notes"] == ["The method 'x' (a:b) was left out: no."]
