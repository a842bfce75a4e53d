"""The options on what networks are run as and on: the architecture, the data, the loss."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepalign_cli.errors import UsageError
from deepalign_cli.spelling import british

if TYPE_CHECKING:
    from deepalign_cli.operations.run_settings import RunSettings

_PANEL = "What they are run as, and on"


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="SOURCE",
        help="The architecture: FILE.py:FACTORY or PACKAGE.MODULE:FACTORY, a callable that returns the "
        "nn.Module; a folder with a config.json of transformers; a FILE.pt2 of torch.export. This runs the "
        "code that you name. Without it: the checkpoint's metadata, or a family known by names and shapes.",
        rich_help_panel=_PANEL,
    ),
]

ModelArguments = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg",
        metavar="KEY=VALUE",
        help="An argument for the factory of --model; repeat it for more.",
        rich_help_panel=_PANEL,
    ),
]

DataSource = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="A .npz or .safetensors file of inputs and labels, a folder of images by class, "
        "sklearn:digits, hf:NAME, or FILE.py:FACTORY, which runs your code (docs/data.md).",
        rich_help_panel=_PANEL,
    ),
]

Normalise = Annotated[
    str | None,
    typer.Option(
        "--normalise",
        metavar="HOW",
        help="What becomes of stored pixels: none, unit (divided by 255), standard (by the training "
        "pixels' mean and deviation), or MEAN,STD in units of 0 to 1. Needed where neither file says it.",
        rich_help_panel=_PANEL,
    ),
]

Side = Annotated[
    int | None,
    typer.Option(
        "--side", metavar="N", min=1, help="Images are pooled to N x N pixels.", rich_help_panel=_PANEL
    ),
]

Grey = Annotated[bool, typer.Option("--grey", help="Images lose their colours.", rich_help_panel=_PANEL)]


@dataclass(frozen=True)
class RunningOptions:
    """What a command takes that runs networks on data. None of it is needed where nothing is run."""

    model: Model = None
    model_arg: ModelArguments = None
    design: Annotated[
        list[str] | None,
        typer.Option(
            "--design",
            metavar="KEY=VALUE",
            help="What shapes do not tell of a known family, such as pools=1,2 or w0=30 (docs/models.md).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    data: DataSource = None
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="The part of the data: test, train, ...; test by default where there is one. Repeat it "
            "to see several side by side.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", metavar="N", min=1, help="Take N examples, evenly spaced.", rich_help_panel=_PANEL
        ),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            metavar="N",
            min=2,
            help="How many training examples units are matched (5,000 by default) and statistics repaired "
            "(2,000) on.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            help="Examples at a time; by default as many as a CPU runs fast, at most 1,000.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    normalise: Normalise = None
    side: Side = None
    grey: Grey = False
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="NAME",
            help="cross-entropy, mse, causal-lm, or FILE.py:LOSS, which runs your code; picked by the "
            "labels' type where it is not given.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse what a script leaves where a variable was empty: it would count as not given.

        Raises:
            UsageError: so.
        """
        for name in ("model", "data", "loss"):
            if getattr(self, name) == "":
                raise UsageError(f"--{name} names nothing.", "name it, or leave the option out.")

    def first_given(self) -> str | None:
        """The first of the options that was given, but for --data, as it is written."""
        others = (f.name for f in fields(self) if f.name != "data" and getattr(self, f.name))
        return next((f"--{name.replace('_', '-')}" for name in others), None)

    def files(self) -> list[Path]:
        """The files and folders that are read, so far as they are there: no output may take their place."""
        named = [source for source in (self.model, self.data, self.loss) if source]
        places = [place for source in named for place in (source, source.rpartition(":")[0])]
        return [Path(place) for place in places if os.path.exists(place)]  # noqa: PTH110 - Path's raises

    def subject(self) -> RunSettings:
        """The same for the operations.

        Raises:
            UsageError: a pair is none.
        """
        from deepalign_cli.operations.run_settings import RunSettings

        return RunSettings(
            model=self.model,
            arguments=pairs("--model-arg", self.model_arg),
            design={british(key): value for key, value in pairs("--design", self.design).items()},
            data=self.data,
            splits=tuple(self.split or ()),
            limit=self.limit,
            samples=self.samples,
            batch_size=self.batch_size,
            normalise=self.normalise,
            side=self.side,
            grey=self.grey,
            loss=self.loss,
        )


def pairs(option: str, given: Sequence[str] | None) -> Mapping[str, str]:
    """KEY=VALUE arguments as a mapping.

    Raises:
        UsageError: one is no such pair, or a key is there twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f"'{text}' is not KEY=VALUE.", f"write {option} {key or 'key'}=value.")
        if key in found:
            raise UsageError(f"{option} {key} is given twice.", "leave one out.")
        found[key] = value
    return found
