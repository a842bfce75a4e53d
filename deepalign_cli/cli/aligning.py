"""The options on how to align, which of them go together, and the settings that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from deepalign_cli.aligners import methods as table
from deepalign_cli.aligners.methods import METHODS, DataUse
from deepalign_cli.cli.grouped import dashed
from deepalign_cli.cli.options import ALIGNING, AlignmentOptions, SpecOptions
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import check_used, options_of
from deepalign_cli.errors import UsageError
from deepalign_cli.vocabulary.modes import Tokens

_READING = ("key", "strict")  # what a saved alignment does not say

if TYPE_CHECKING:
    from deepalign_cli.operations.settings import Settings

    class AligningOptions(AlignmentOptions):
        """The same, and the options of all methods."""

else:
    AligningOptions = options_of("AligningOptions", METHODS.values(), "-m", ALIGNING, AlignmentOptions)


def make_settings(
    names: Sequence[str] | None, how: AligningOptions, *, force: bool = False, partial: bool = False,
    tokenizer: Tokens | None = None, seeded: bool = False,
) -> Settings:  # fmt: skip
    """The settings of the first of the methods, or of the default one; others differ in their method only.

    `seeded` says that the command draws random numbers besides finding the alignment.

    Raises:
        UsageError: an option has no effect, or its value is not allowed.
    """
    values = {name: value for name, value in vars(how).items() if value is not None and name != "alignment"}
    methods = names or [table.DEFAULT]
    elsewhere = {*_READING, *(["seed"] if seeded else [])}
    options = [*(["method"] if names else []), *(name for name in values if name not in elsewhere)]
    if how.alignment and options:
        hint = "leave one out: a saved alignment holds the order of the units and its spec."
        if options[0] == "activation":
            hint += " To say what the networks compute, use --design activation=..."
        raise UsageError(f"--alignment and {dashed(options[0])} exclude each other.", hint)
    onto = {"onto": values.pop("onto")} if "onto" in values else {}
    check_used("-m", methods, [name for name in values if name not in elsewhere], METHODS, values)
    from deepalign_cli.operations.settings import Settings

    shared = {f.name: values.pop(f.name) for f in fields(SpecOptions) if f.name in values}
    for name in methods:
        METHODS.find(name).values(values)
    return Settings(methods[0], values, force=force, partial=partial, tokenizer=tokenizer, **shared, **onto)


def check_data(
    names: Sequence[str], how: AligningOptions, running: RunningOptions, *, elsewhere: bool = False
) -> None:
    """Check that data are given where they are needed, and only where they are used.

    `names` are methods; a saved alignment takes their place. `elsewhere` says that the command has a use for
    data besides finding the alignment.

    Raises:
        UsageError: they are missing, or have no effect.
    """
    values = vars(how)
    uses = {} if how.alignment else {name: METHODS.find(name).data_use(values) for name in names}
    for name, use in uses.items():
        if use is DataUse.REQUIRED and running.data is None:
            raise METHODS.find(name).lacks_data(values)
    useful = elsewhere or any(use is not DataUse.NONE for use in uses.values())
    if running.data is not None and not useful:
        who = " and ".join(f"-m {name}" for name in uses) or "--alignment"
        raise UsageError(f"{who} makes no use of --data.", "leave it out.")
    dreams = any(METHODS.find(name).dreams for name in uses)
    if running.no_dream and not dreams:
        raise UsageError("--no-dream has no effect: nothing is dreamed.", "leave it out.")
    if running.device is not None and not useful and not dreams:
        raise UsageError("--device has no effect: no network is run.", "leave it out.")
    idle = running.idle(dreams=dreams) if running.data is None else None
    if idle:
        raise UsageError(f"without --data, {idle} has no effect.", "add --data mnist.npz")
