from __future__ import annotations

import pytest
import torch

from deepalign_cli.combiners.rules import WeightRule, parse_rule, places_of, ruled, weights_of
from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.errors import UsageError

LINEAR, TASKS = COMBINERS["linear"], COMBINERS["task_arithmetic"]
NAMES = [
    "embed.weight",
    *(f"layers.{i}.{part}.weight" for i in range(3) for part in ("self_attn.q", "mlp.up")),
]


def test_layers_are_counted_among_those_of_the_same_name() -> None:
    places = places_of([*NAMES, "vision.0.weight", "12.weight", "0.weight", "h.1", "layer1.weight"])
    assert [places[f"layers.{i}.mlp.up.weight"] for i in range(3)] == [0.0, 0.5, 1.0]
    assert (places["embed.weight"], places["layer1.weight"]) == (0.0, 0.0)
    assert (places["vision.0.weight"], places["12.weight"], places["0.weight"], places["h.1"]) == (1, 1, 0, 1)


def test_between_the_numbers_lie_straight_lines() -> None:
    rule = parse_rule("mlp=0,0.2,0.5,1", LINEAR, 2)
    assert [rule.weights(place)[1] for place in (0, 1 / 6, 1 / 3, 0.5, 1)] == pytest.approx(
        [0, 0.1, 0.2, 0.35, 1]
    )
    assert all(sum(rule.weights(place)) == pytest.approx(1) for place in (0, 0.3, 1))
    assert parse_rule("mlp=0.3", LINEAR, 2).weights(0.7) == pytest.approx((0.7, 0.3))


def test_a_list_is_for_all_factors_or_each_network_has_one() -> None:
    assert parse_rule("mlp=1,-0.5", TASKS, 2) == WeightRule("mlp", ((1, -0.5), (1, -0.5)))
    rule = parse_rule("a=b=2,1/0,3/1", LINEAR, 3)
    assert (rule.pattern, rule.weights(0.5)) == ("a=b", (1.5, 1.5, 1.0))
    assert parse_rule(str(rule), LINEAR, 3) == rule


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("mlp", 2, "has no list of numbers"),
        ("=0,1", 2, "does not say for which tensors"),
        ("mlp=", 2, "has no list of numbers"),
        ("mlp=0,x", 2, "has no list of numbers"),
        ("mlp=0,1", 3, "has 1 lists for 3 inputs"),
        ("mlp=0,1/1/1", 2, "has 3 lists for 2 inputs"),
        ("mlp=0,1.5", 2, "not negative"),
        ("mlp=0,1/0,1", 2, "not all zero"),
        ("(mlp=0,1", 2, "is not a regular expression"),
    ],
)
def test_what_is_no_rule(text: str, count: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_rule(text, LINEAR, count)


def test_the_first_rule_that_fits_counts_and_others_tensors_keep_the_weights() -> None:
    rules = [parse_rule(text, LINEAR, 2) for text in (r"\.2\.mlp=0", "mlp=1", "q=0,1")]
    own = weights_of(rules, NAMES)
    assert "embed.weight" not in own
    assert [own[f"layers.{i}.mlp.up.weight"] for i in range(3)] == [(0, 1), (0, 1), (1, 0)]

    tensors = [torch.tensor([0.0]), torch.tensor([8.0])]
    combine = ruled(rules, NAMES, lambda weights: LINEAR.make(weights, {}), LINEAR.make((3, 1), {}))
    told = {name: float(combine(name, tensors)) for name in NAMES}
    assert [told[f"layers.{i}.self_attn.q.weight"] for i in range(3)] == [0, 4, 8]
    assert (told["embed.weight"], told["layers.0.mlp.up.weight"], told["layers.2.mlp.up.weight"]) == (2, 8, 0)


def test_a_rule_for_no_tensor_is_refused() -> None:
    with pytest.raises(UsageError, match="--weights-for 'attention' is for no tensor"):
        ruled(
            [parse_rule("attention=1", LINEAR, 2)],
            NAMES,
            lambda w: LINEAR.make(w, {}),
            LINEAR.make((1, 1), {}),
        )
