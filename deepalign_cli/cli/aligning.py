"""The options on how to align, which of them go together, and the settings that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepalign_cli.cli import options
from deepalign_cli.cli.options import MethodName, RefineName
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.settings import Settings


@dataclass(frozen=True)
class AligningOptions:
    """What every command takes that aligns. None stands for what was not given."""

    network: options.Network = None
    refine: options.Refine = None
    sketches: options.Sketches = None
    share: options.Share = None
    restarts: options.Restarts = None
    seed: options.Seed = None
    spec: options.Spec = None
    activation: options.Activation = None
    heads: options.Heads = None


# Which of the options on how to align each method uses.
_USES: Mapping[MethodName, frozenset[str]] = {
    MethodName.DEEPALIGN: frozenset({"network", "refine", "sketches", "seed"}),
    MethodName.WEIGHTS: frozenset({"restarts", "seed"}),
    MethodName.ACTIVATIONS: frozenset(),
    MethodName.DUAL: frozenset({"share"}),
    MethodName.NONE: frozenset(),
}
_TUNING = frozenset().union(*_USES.values())
_NEED_DATA = (MethodName.ACTIVATIONS, MethodName.DUAL)
_MAY_USE_DATA = (None, RefineName.AUTO, RefineName.ACTIVATIONS)


def make_settings(
    methods: Sequence[MethodName],
    how: AligningOptions,
    alignments: Sequence[Path] | None = None,
    *,
    force: bool = False,
    explicit: bool = True,
) -> Settings:
    """The settings of the first of `methods`; the others differ from it in their method only.

    `explicit` says that the user named the methods.

    Raises:
        UsageError: an option was given that has no effect.
    """
    given = {name: value for name, value in vars(how).items() if value is not None}
    if how.share is not None and not 0 < how.share < 1:
        raise UsageError(
            f"--share {how.share:g} leaves nothing to mix.",
            "-m weights is 0 of it, -m activations all of it.",
        )
    check_used(methods, alignments, {**({"method": methods[0]} if explicit else {}), **given})
    from deepalign_cli.operations.settings import Method, Refine, Settings

    made: dict[str, Any] = dict(given)
    if how.refine is not None:
        made["refine"] = Refine(how.refine)
    return Settings(Method(methods[0]), force=force, **made)


def check_used(
    methods: Sequence[MethodName], alignments: Sequence[Path] | None, given: Mapping[str, object]
) -> None:
    """Check that every option in `given` has an effect: with `alignments` none of them has.

    Raises:
        UsageError: one has none; it is named beside what leaves it without.
    """
    for name in given:
        if alignments:
            hint = "a saved alignment holds the match, and the spec it was made with."
            if name == "activation":
                hint += " What the networks compute is said by --design activation=..."
            raise UsageError(f"--alignment and --{name} exclude each other.", hint)
        if name in _TUNING and not any(name in _USES[method] for method in methods):
            users = [f"-m {other}" for other, used in _USES.items() if name in used]
            raise UsageError(
                f"{' and '.join(f'-m {m}' for m in methods)} makes no use of --{name}.",
                f"leave it out, or give {' or '.join(users)}.",
            )


def check_data(
    methods: Sequence[MethodName], how: AligningOptions, running: RunningOptions, *, elsewhere: bool = False
) -> None:
    """Check that data are given where they are needed, and only where they are used.

    `elsewhere` says that the command has a use for data besides finding the alignment.

    Raises:
        UsageError: they are missing, or have no effect.
    """
    needing = [f"-m {method}" for method in methods if method in _NEED_DATA]
    if how.refine is RefineName.ACTIVATIONS:
        needing.append("--refine activations")
    if needing and running.data is None:
        raise UsageError(f"{needing[0]} looks at data.", "name them: --data mnist.npz (docs/data.md).")
    useful = elsewhere or bool(needing)
    useful = useful or (MethodName.DEEPALIGN in methods and how.refine in _MAY_USE_DATA)
    if running.data is not None and not useful:
        raise UsageError(
            f"{' and '.join(f'-m {m}' for m in methods)} makes no use of --data.", "leave it out."
        )
    idle = running.first_given() if running.data is None else None
    if idle:
        raise UsageError(f"without --data, {idle} has no effect.", "name the data: --data mnist.npz")
