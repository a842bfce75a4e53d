"""Which options on aligning and data go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.subjects import POINTS, given, refused
from tests.operations.making import deepalign, pair


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--plot", "c.png"], "--plot needs losses"),
        (["--csv", "c.csv"], "--csv needs losses"),
        (["--max-barrier", "1"], "--max-barrier needs losses"),
        (["--max-barrier", "0"], "--max-barrier needs losses"),
        (["--repair"], "--repair needs losses"),
        (["-m", "activations"], "-m activations needs data"),
        (["-m", "weights", "-m", "dual"], "-m dual needs data"),
        (["--refine", "activations"], "--refine activations needs data"),
        (["--limit", "3"], "without --data, --limit has no effect"),
        (["--split", "test"], "without --data, --split has no effect"),
        (["--model", "x.py:make", "--side", "3"], "without --data, --side has no effect"),
        (["--grey"], "without --data, --grey has no effect"),
        (["--batch-size", "3"], "without --data, --batch-size has no effect"),
    ],
)
def test_what_needs_data_says_so(args: list[str], message: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    refused(deepalign("barrier", a, b, *args), 2, message)


@pytest.mark.parametrize(
    ("methods", "args", "message"),
    [
        (["activations"], ["--restarts", "2"], "-m activations makes no use of --restarts"),
        (["dual"], ["--refine", "none"], "-m dual makes no use of --refine"),
        (["none"], ["--seed", "1"], "-m none makes no use of --seed"),
        (["none", "weights"], ["--sketches", "2"], "-m none and -m weights makes no use of --sketches"),
        (["dual"], ["--share", "0"], "--share 0 leaves nothing to mix"),
        (["dual"], ["--share", "1"], "--share 1 leaves nothing to mix"),
        (["dual"], ["--share", "nan"], "--share"),
        (["dual"], ["--share", "half"], "--share"),
        (["weights"], ["--alignment", "kept"], "--alignment and --method exclude each other"),
        (
            [],
            ["--alignment", "kept", "--activation", "relu"],
            "--alignment and --activation exclude each other",
        ),
        ([], ["--alignment", "kept", "--share", "0.5"], "--alignment and --share exclude each other"),
    ],
)
def test_options_without_effect_are_refused(
    methods: list[str], args: list[str], message: str, tmp_path: Path
) -> None:
    a, b = pair(tmp_path)
    asked = [part for method in methods for part in ("-m", method)]
    refused(deepalign("barrier", a, b, *given(tmp_path), *asked, *args), 2, message)


def test_beside_an_alignment_the_design_says_the_activation(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    done = deepalign("barrier", a, b, *given(tmp_path), "--alignment", "kept", "--activation", "relu")
    assert "--design activation=..." in done.err


@pytest.mark.slow
def test_an_option_that_one_of_the_methods_uses_is_taken(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    how = ("-m", "none", "-m", "weights", "-m", "dual", "--restarts", 1, "--share", 0.9)
    assert deepalign("barrier", a, b, *given(tmp_path), *how, *POINTS).code == 0


@pytest.mark.slow
def test_dual_with_hardly_a_share_is_one_of_its_halves(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    losses = {}
    for name, more in {
        "all": ("-m", "dual", "--share", 0.999999),
        "activations": ("-m", "activations"),
    }.items():
        told = deepalign("barrier", a, b, *given(tmp_path), *more, *POINTS, "--json").json
        losses[name] = told["paths"][1]["loss"]

    assert losses["all"] == pytest.approx(losses["activations"], rel=1e-6)
