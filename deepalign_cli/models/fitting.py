"""Whether a checkpoint's tensors are those of a network: names and shapes, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deepalign_cli.errors import MismatchError

Shape = tuple[int, ...]
_SHOWN = 4


def check_fit(
    own: Mapping[str, Shape],
    given: Mapping[str, Shape],
    hint: str,
    optional: Callable[[str], bool] = lambda _: False,
    *,
    what: str = "model",
) -> None:
    """Check that a model's tensors (`own`) and a file's (`given`) have the same names and shapes.

    A tensor that is `optional` may be absent from either.

    Raises:
        MismatchError: some differ; they are listed.
    """
    names = (*own, *(n for n in given if n not in own))
    differing = [
        n for n in names if own.get(n) != given.get(n) and not (optional(n) and (n in own) != (n in given))
    ]
    if differing:
        shown = ", ".join(
            f"'{n}' ({own.get(n, 'absent')} in the {what}, {given.get(n, 'absent')} in the file)"
            for n in differing[:_SHOWN]
        )
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise MismatchError(f"the {what} does not fit the checkpoint: {shown}{more}.", hint)
