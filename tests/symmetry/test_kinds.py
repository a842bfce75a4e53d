from __future__ import annotations

import pytest
import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.symmetry.kinds import (
    KINDS,
    PERMUTATION,
    SCALE,
    SIGN,
    SIGNED_SCALE,
    kind_that,
    parse_kinds,
)
from tests.symmetry.builders import seeded

UNIFORM = torch.rand(1000, generator=seeded(0), dtype=torch.float64)


def test_kinds_are_found_by_their_names() -> None:
    assert {name: str(kind) for name, kind in KINDS.items()} == {name: name for name in KINDS}
    plain = ["permutation", "sign", "scale", "signed scale"]
    turning = ["orthogonal", "centred orthogonal", "rotary", "rotary of neighbours", "rotary half turns"]
    assert list(KINDS) == [*plain, *turning, "permutation inside"]
    assert [kind.multiplies for kind in (PERMUTATION, SIGN, SCALE)] == [False, True, True]
    assert [(kind.turns, kind.stretches) for kind in (SIGN, SCALE)] == [(True, False), (False, True)]


@pytest.mark.parametrize("kind", [SIGN, SCALE, SIGNED_SCALE], ids=str)
def test_random_factors_are_allowed_ones(kind) -> None:  # type: ignore[no-untyped-def]
    factors = kind.factors(UNIFORM)
    assert kind.allows(factors)
    for bad in (0.0, torch.inf, torch.nan):
        assert not kind.allows(torch.cat([factors, torch.tensor([bad])]))


def test_signs_are_even_and_scales_go_both_ways() -> None:
    assert SIGN.factors is not None
    assert SCALE.factors is not None
    signs, scales = SIGN.factors(UNIFORM), SCALE.factors(UNIFORM)
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.1
    assert 0.5 <= float(scales.min()) < 0.51 < 1.9 < float(scales.max()) <= 2
    assert abs(float(scales.log().mean())) < 0.1


def test_signed_scales_have_a_sign_and_a_magnitude_that_are_independent() -> None:
    assert SIGNED_SCALE.factors is not None
    factors = SIGNED_SCALE.factors(UNIFORM)
    signs, sizes = factors.sign(), factors.abs().log()
    assert 0.5 <= float(factors.abs().min()) < 0.51 < 1.9 < float(factors.abs().max()) <= 2
    assert max(abs(float(x)) for x in (signs.mean(), sizes.mean(), (signs * sizes).mean())) < 0.1


def test_kinds_are_asked_for_by_what_they_do_and_by_a_list() -> None:
    for kind in (kind for kind in KINDS.values() if not kind.mixes):
        assert kind_that(turns=kind.turns, stretches=kind.stretches) is kind
    assert parse_kinds("scale, sign") == {SCALE, SIGN}
    assert parse_kinds("sign") == {SIGN}
    for text in ("", "scale,", "signs", "signed scale", "permutation"):
        with pytest.raises(UsageError, match="is not a kind that can be moved"):
            parse_kinds(text)


def test_what_is_no_sign_and_what_is_no_scale() -> None:
    assert SIGN.allows is not None
    assert SCALE.allows is not None
    assert not SIGN.allows(torch.tensor([1.0, 0.5]))
    assert not SCALE.allows(torch.tensor([1.0, -1.0]))
