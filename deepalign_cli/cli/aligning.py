"""The options on how to align, which of them go together, and the settings that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.aligners import methods as table
from deepalign_cli.aligners.methods import METHODS, DataUse
from deepalign_cli.cli import options
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import HOW_TO_ALIGN, options_of
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.settings import Settings


@dataclass(frozen=True)
class SpecOptions:
    """What every command takes that aligns, whatever the method. None stands for what was not given."""

    seed: options.Seed = None
    spec: options.Spec = None
    activation: options.Activation = None
    heads: options.Heads = None


if TYPE_CHECKING:

    class AligningOptions(SpecOptions):
        """The same, and the options of all methods."""

else:
    AligningOptions = options_of("AligningOptions", METHODS.values(), "-m", HOW_TO_ALIGN, SpecOptions)


def make_settings(
    names: Sequence[str] | None,
    how: SpecOptions,
    alignments: Sequence[Path] | None = None,
    *,
    force: bool = False,
) -> Settings:
    """The settings of the first of the methods, or of the default one; others differ in their method only.

    Raises:
        UsageError: an option was given that has no effect, or that may not be what it is.
    """
    given = {name: value for name, value in vars(how).items() if value is not None}
    used = names or [table.DEFAULT]
    check_used(used, alignments, {**({"method": used[0]} if names else {}), **given})
    from deepalign_cli.operations.settings import Settings

    common = {field.name for field in fields(SpecOptions)}
    own = {name: value for name, value in given.items() if name not in common}
    for name in used:
        METHODS.find(name).values(own)
    shared = {name: value for name, value in given.items() if name in common}
    return Settings(used[0], own, force=force, **shared)


def check_used(names: Sequence[str], alignments: Sequence[Path] | None, given: Mapping[str, object]) -> None:
    """Check that every option in `given` has an effect: with `alignments` none of them has.

    Raises:
        UsageError: one has none; it is named beside what leaves it without.
    """
    for name in given:
        if alignments:
            hint = "a saved alignment holds the units' order, and the spec it was made with."
            if name == "activation":
                hint += " To say what the networks compute, use --design activation=..."
            raise UsageError(f"--alignment and --{name} exclude each other.", hint)
        users = [row.name for row in METHODS.values() if _uses(row, name)]
        if users and not set(users) & set(names):
            raise UsageError(
                f"{_listed(names, ' and ')} makes no use of --{name}.",
                f"leave it out, or give {_listed(users, ' or ')}.",
            )


def _uses(method: table.Method, option: str) -> bool:
    is_own = any(parameter.name == option for parameter in method.parameters)
    return is_own or (option == "seed" and method.seeded)


def _listed(names: Sequence[str], word: str) -> str:
    return word.join(f"-m {name}" for name in names)


def check_data(
    names: Sequence[str], how: SpecOptions, running: RunningOptions, *, elsewhere: bool = False
) -> None:
    """Check that data are given where they are needed, and only where they are used.

    `names` are methods, none of them where an alignment is saved. `elsewhere` says that the command has a
    use for data besides finding the alignment.

    Raises:
        UsageError: they are missing, or have no effect.
    """
    given = vars(how)
    uses = {name: METHODS.find(name).data_use(given) for name in names}
    for name, use in uses.items():
        if use is DataUse.REQUIRED and running.data is None:
            raise METHODS.find(name).lacks_data(given)
    useful = elsewhere or any(use is not DataUse.NONE for use in uses.values())
    if running.data is not None and not useful:
        raise UsageError(f"{_listed(names, ' and ')} makes no use of --data.", "leave it out.")
    idle = running.first_given() if running.data is None else None
    if idle:
        raise UsageError(f"without --data, {idle} has no effect.", "add --data mnist.npz")
