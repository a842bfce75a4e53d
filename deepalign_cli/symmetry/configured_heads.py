"""Numbers of attention heads that a config.json tells.

Shapes do not show them, so nothing else would notice that two networks have different ones, and so compute
something else with their weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import MismatchError, UsageError

_QUERIES = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_TOLD = (
    *_QUERIES, "num_key_value_heads", "encoder_attention_heads", "decoder_attention_heads",
    "decoder_num_heads",
)  # fmt: skip


def check_same_heads(reference: Checkpoint, moving: Checkpoint) -> None:
    """Check that two configurations do not tell different numbers of heads.

    Raises:
        MismatchError: they do.
    """
    own, other = (dict(_numbers(checkpoint.config)) for checkpoint in (reference, moving))
    for key in sorted(own.keys() & other.keys()):
        if own[key] != other[key]:
            raise MismatchError(
                f"{key} is {own[key]} in the config.json of '{reference.path}' but {other[key]} in that of "
                f"'{moving.path}'.",
                "networks of other heads compute something else with weights of the same shapes.",
            )


def check_asked_heads(checkpoint: Checkpoint, heads: int | None) -> None:
    """Check that a configuration does not deny the number of heads that the user gives.

    Raises:
        UsageError: it does.
    """
    told = {key: checkpoint.config[key] for key in _QUERIES if type(checkpoint.config.get(key)) is int}
    if heads is not None and told and heads not in told.values():
        key, number = next(iter(told.items()))
        raise UsageError(
            f"--heads {heads}, but {key} is {number} in the config.json of '{checkpoint.path}'.",
            "leave --heads out.",
        )


def _numbers(config: Mapping[str, object], before: str = "") -> Iterator[tuple[str, int]]:
    """The numbers of heads by key, in which `a.b` stands in a part."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{key}.")
        elif key in _TOLD and type(value) is int:
            yield before + key, value
