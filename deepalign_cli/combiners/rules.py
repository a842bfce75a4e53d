"""Weights that depend on a tensor's name, and on how deep in the network it lies.

    self_attn=0,0.2,0.5,1    of two networks that have shares: that of B, from the first layer to the last
    mlp=1,0.5/0,0.5          a list for each network
    embed|lm_head=1/0        the same everywhere

Example:
    >>> rule = WeightRule("self_attn", ((1.0, 0.0), (0.0, 1.0)))
    >>> [rule.weights(place) for place in (0.0, 0.5, 1.0)]
    [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    >>> places_of(["embed.weight", "layers.0.up.weight", "layers.1.up.weight", "layers.2.up.weight"])
    {'embed.weight': 0.0, 'layers.0.up.weight': 0.0, 'layers.1.up.weight': 0.5, 'layers.2.up.weight': 1.0}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepalign_cli.combiners.combiner import Combine, Combiner, Weighing
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_HINT = "for example --weights-for 'self_attn=0,0.5,1', or a list for each input: 'mlp=1,0.5/0,0.5'."


@dataclass(frozen=True)
class WeightRule:
    """The weights of tensors in whose name `pattern` is found.

    For each network `gradients` has numbers at even distances from the first layer to the last; between them
    lie straight lines.
    """

    pattern: str
    gradients: tuple[tuple[float, ...], ...]

    def weights(self, place: float) -> tuple[float, ...]:
        """A weight for each network, `place` of the way from the first layer (0) to the last (1)."""
        return tuple(_between(numbers, place) for numbers in self.gradients)

    def __str__(self) -> str:
        return f"{self.pattern}={'/'.join(','.join(map(str, numbers)) for numbers in self.gradients)}"


def rule_of(pattern: str, gradients: Sequence[Sequence[float]], row: Combiner, count: int) -> WeightRule:
    """The rule of a pattern and a list for each of `count` networks, or one for all.

    Of two networks that have shares one list is the second one's.

    Raises:
        UsageError: the pattern, a number of lists or a weight may not be used.
    """
    lists = [tuple(numbers) for numbers in gradients]
    if len(lists) == 1 and row.weighing is Weighing.SHARES and count == 2:
        lists = [tuple(1 - share for share in lists[0]), lists[0]]
    elif len(lists) == 1 and row.weighing is Weighing.FACTORS:
        lists *= count
    if len(lists) != count or not all(lists):
        raise UsageError(f"--weights-for '{pattern}' has {len(lists)} lists for {count} inputs.", _HINT)
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--weights-for '{pattern}' is not a regular expression: {error}.", _HINT) from None
    rule = WeightRule(pattern, tuple(lists))
    for place in {i / max(1, len(numbers) - 1) for numbers in lists for i in range(len(numbers))}:
        row.shares(rule.weights(place))
    return rule


def parse_rule(text: str, row: Combiner, count: int) -> WeightRule:
    """The rule that is typed as REGEX=W,W,... or REGEX=W,.../W,.../...

    Raises:
        UsageError: it is none.
    """
    pattern, _, lists = text.rpartition("=")
    try:
        gradients = [[float(number) for number in numbers.split(",")] for numbers in lists.split("/")]
    except ValueError:
        raise UsageError(f"--weights-for '{text}' has no list of numbers.", _HINT) from None
    if not pattern:
        raise UsageError(f"--weights-for '{text}' does not say for which tensors.", _HINT)
    return rule_of(pattern, gradients, row, count)


def ruled(
    rules: Sequence[WeightRule],
    names: Iterable[str],
    make: Callable[[Sequence[float]], Combine],
    plain: Combine,
) -> Combine:
    """The combiner that gives each tensor the weights of the first rule for its name; others are `plain`.

    Raises:
        UsageError: a rule is for no tensor.
    """
    names = list(names)
    for rule in rules:
        if not any(re.search(rule.pattern, name) for name in names):
            raise UsageError(f"--weights-for '{rule.pattern}' is for no tensor.", f"one is '{names[0]}'.")
    weights, made = weights_of(rules, names), dict[tuple[float, ...], Combine]()

    def combine(name: str, tensors: Sequence[Tensor]) -> Tensor:
        if name not in weights:
            return plain(name, tensors)
        own = weights[name]
        if own not in made:
            made[own] = make(own)
        return made[own](name, tensors)

    return combine


def weights_of(rules: Sequence[WeightRule], names: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """The weights of every tensor that a rule is for."""
    weights = {}
    for name, place in places_of(names).items():
        rule = next((rule for rule in rules if re.search(rule.pattern, name)), None)
        if rule is not None:
            weights[name] = rule.weights(place)
    return weights


def places_of(names: Iterable[str]) -> Mapping[str, float]:
    """How far every tensor's layer is on the way from the first (0) to the last (1).

    The first number in a name is its layer's, among those with the same words before it. Tensors without a
    number are at 0, and those of the only layer at 1.
    """
    layers: dict[str, tuple[str, int]] = {}
    last: dict[str, int] = {}
    places = dict.fromkeys(names, 0.0)
    for name in places:
        match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
        if match:
            before, number = name[: match.start()], int(match[1])
            layers[name] = before, number
            last[before] = max(number, last.get(before, 0))
    for name, (before, number) in layers.items():
        places[name] = number / last[before] if last[before] else 1.0
    return places


def _between(numbers: Sequence[float], place: float) -> float:
    at = place * (len(numbers) - 1)
    low = min(int(at), len(numbers) - 1)
    high = min(low + 1, len(numbers) - 1)
    return numbers[low] + (at - low) * (numbers[high] - numbers[low])
