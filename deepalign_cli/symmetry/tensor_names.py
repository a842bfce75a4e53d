"""What names say: the module a tensor belongs to, its role there, and the order that numbers give."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os.path import commonprefix

from deepalign_cli.checkpoint.names import AVERAGED

MODULE_ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_LOOSE = re.compile(
    r"(?P<pre>.*?)[._]?(?P<role>weights?|kernel|bias(?:es)?|w|b)(?P<post>[._]?\d+)?(?::0)?", re.IGNORECASE
)
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands: its module's path and its role (`weight`, `bias`, ... or its own last word).

    `strict` is true where the role is spelt as PyTorch spells it, so that a weight is (out, in).
    """

    path: str
    role: str
    strict: bool


def place_of(name: str) -> Place:
    """The module and the role that a tensor's name tells.

    `net.0.weight` is (`net.0`, weight); `W1` and `layer1_b` are read too, loosely.
    """
    path, _, last = name.rpartition(".")
    if last in MODULE_ROLES:
        return Place(path, last, strict=True)
    match = _LOOSE.fullmatch(name)
    if match:
        role = "bias" if match["role"].lower().startswith("b") else "weight"
        return Place(match["pre"] + (match["post"] or ""), role, strict=False)
    return Place(path, last, strict=False)


def pieces(path: str) -> tuple[tuple[str, int], ...]:
    """`features.10.conv2` as ((`features.`, 10), (`.conv`, 2)); a tail without a number counts as -1.

    Sorted by these, `fc2` comes before `fc10`.
    """
    return tuple(
        (text, int(number) if number else -1)
        for text, number in re.findall(r"(\D*)(\d{1,9}|$)", path)
        if text or number
    )


def numbers(path: str) -> tuple[int, ...]:
    """The numbers in a path, in order."""
    return tuple(number for _, number in pieces(path) if number >= 0)


def stands_before(first: str, second: str) -> bool | None:
    """Whether numbering puts `first` before `second`; None where it does not say.

    Two paths are compared up to the first number in which they differ, as long as the words agree.
    """
    for (text_a, number_a), (text_b, number_b) in zip(pieces(first), pieces(second), strict=False):
        if text_a != text_b:
            return None
        if number_a != number_b:
            return number_a < number_b if min(number_a, number_b) >= 0 else None
    return None


def is_statistic(name: str) -> bool:
    """Whether a tensor is a running statistic of a norm."""
    return name.rpartition(".")[2] in STATISTICS


def is_counter(name: str) -> bool:
    """Whether a tensor counts batches of a norm or updates of an average: nothing computes with it."""
    return name.rpartition(".")[2] in ("num_batches_tracked", AVERAGED)


def group_name(path: str) -> str:
    """A module's path as a name in the axis grammar."""
    clean = re.sub(r"[^\w.]", "_", path, flags=re.ASCII).strip(".")
    return clean if re.match(r"[A-Za-z_]", clean) else f"h{clean}"


def common_prefix(names: list[str]) -> str:
    """The longest dotted prefix that all names share, such as `backbone.`."""
    prefix = commonprefix(names)  # noqa: RUF071 - cut back to a whole word below
    return prefix[: prefix.rfind(".") + 1]


def parent(path: str) -> str:
    """The path of what a module stands in: `features` for `features.3`.

    >>> parent("features.3"), parent("fc1")
    ('features', '')
    """
    return path.rpartition(".")[0]
