from __future__ import annotations

from dataclasses import replace

import pytest

from deepalign_cli.errors import AmbiguousError, SpecError
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.stored_spec import (
    ASSUMPTIONS_KEY,
    SPEC_KEY,
    refuse_assumptions,
    spec_metadata,
    stored_spec,
)

SPEC = replace(parse_spec('[axes]\n"w" = "k 2"\n'), basis=Basis.READ, assumptions=("one", "two"))


def test_a_spec_is_read_back_with_what_it_rests_on() -> None:
    read = stored_spec(spec_metadata(SPEC), "a file")
    assert read == SPEC
    assert read is not None
    assert read.assumptions == ("one", "two")
    assert stored_spec(spec_metadata(SPEC, whole=False), "a file") is None


@pytest.mark.parametrize("text", ["{", "3", "[1]", "[" * 100_000])
def test_what_is_no_list_of_sentences_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="the assumptions in a file are not a list of sentences"):
        stored_spec({SPEC_KEY: str(SPEC), ASSUMPTIONS_KEY: text}, "a file")


def test_a_refusal_names_the_first_assumption_and_counts_the_others() -> None:
    refuse_assumptions(replace(SPEC, assumptions=()))
    with pytest.raises(AmbiguousError, match=r"rests on an assumption: one \(and 1 more\)"):
        refuse_assumptions(SPEC)
