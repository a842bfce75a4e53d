from __future__ import annotations

import pytest

from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.none import NoAlignment
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.errors import UsageError
from deepalign_cli.operations.settings import Settings


def test_settings_choose_the_aligner() -> None:
    assert isinstance(Settings("none").aligner(), NoAlignment)
    chosen = Settings("weights", {"restarts": 3, "sketches": 2}).aligner()
    assert isinstance(chosen, WeightMatching)
    assert chosen.restarts == 3
    learned = Settings(options={"refine": "prior", "sketches": 3}).aligner()
    assert isinstance(learned, LearnedAligner)
    assert (learned.name, learned.refine, learned.sketches) == ("universal-v1", "prior", 3)


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no method 'luck'"):
        Settings("luck").aligner()
    with pytest.raises(UsageError, match="--restarts is 0"):
        Settings("weights", {"restarts": 0}).aligner()
    with pytest.raises(UsageError, match="-m activations needs data"):
        Settings("activations").aligner()


def test_the_seed_is_that_of_the_random_numbers() -> None:
    assert Settings(seed=3).rng().initial_seed() == 3
