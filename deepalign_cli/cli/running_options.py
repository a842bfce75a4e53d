"""The options on what networks are run as and on: the architecture, the data, the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.cli import grouped
from deepalign_cli.errors import UsageError
from deepalign_cli.spelling import british

if TYPE_CHECKING:
    from deepalign_cli.operations.run_settings import RunSettings

_PANEL = "How they are run, and on what"
DREAM = "dream"  # as data
option, flag = partial(grouped.option, panel=_PANEL), partial(grouped.flag, panel=_PANEL)


@dataclass(frozen=True)
class NetworkOptions:
    """The network. None of it is needed where nothing is traced or run."""

    model: str | None = option(
        "The architecture: FILE.py:FACTORY or PACKAGE.MODULE:FACTORY, a callable that returns the "
        "nn.Module; a folder with a config.json of transformers; a FILE.pt2 of torch.export. This runs the "
        "code that you name. Without it: the checkpoint's metadata, or a family known by names and shapes.",
        metavar="SOURCE",
    )
    model_arg: list[str] | None = option(
        "An argument for the factory of --model; repeat it for more.", metavar="KEY=VALUE"
    )
    input_shape: str | None = option(
        "The shape of one example, to trace or check --model without --data, or to dream; else it comes "
        "with the model, or is found by trying.",
        metavar="CxHxW",
    )


@dataclass(frozen=True)
class ModelOptions(NetworkOptions):
    """The same, and its inputs."""

    data: str | None = option(
        "A .npz or .safetensors file of inputs and labels, a folder of images by class, "
        "sklearn:digits, hf:NAME, or FILE.py:FACTORY, which runs your code (docs/data.md); or dream: inputs "
        "that the networks dream of themselves (docs/dreams.md).",
        metavar="SOURCE",
    )
    normalise: str | None = option(
        "How to scale stored pixels: none, unit (divide by 255), standard (by the mean and deviation of "
        "the training pixels), or MEAN,STD on a scale of 0 to 1. Required unless the checkpoint or the data "
        "file says so.",
        metavar="HOW",
    )
    side: int | None = option("Pool images to N x N pixels.", min=1)
    grey: bool = flag("Convert images to greyscale.")

    def __post_init__(self) -> None:
        """Refuse the empty value that a script passes for an unset variable: it would count as no value.

        Raises:
            UsageError: a value is empty.
        """
        for name in ("model", "data", "loss"):
            if getattr(self, name, None) == "":
                raise UsageError(f"--{name} names nothing.", "give it a value, or leave the option out.")


@dataclass(frozen=True)
class RunningOptions(ModelOptions):
    """The same, with what is measured."""

    design: list[str] | None = option(
        "What the shapes of a known family do not tell, such as pools=1,2 or w0=30 (docs/models.md).",
        metavar="KEY=VALUE",
    )
    split: list[str] | None = option(
        "The part of the data: test, train, ...; test by default where there is one. Repeat it to compare "
        "several.",
        metavar="NAME",
    )
    limit: int | None = option("Use N examples, evenly spaced.", min=1)
    samples: int | None = option(
        "Training examples to match units on (5,000 by default) and to repair statistics on (2,000).", min=2
    )
    batch_size: int | None = option(
        "Examples at a time; by default as many as a CPU runs fast, at most 1,000.", min=1
    )
    loss: str | None = option(
        "cross-entropy, mse, causal-lm, or FILE.py:LOSS, which runs your code; by default chosen by the type "
        "of the labels.",
        metavar="NAME",
    )
    dream: int | None = option(
        "How many inputs to dream, in the place of --data; 64 by default, and of classes up to 1,000. "
        "Without any of these options, networks with BatchNorm, language models and small classifiers dream "
        "by themselves.",
        min=2,
    )
    dream_steps: int | None = option("How many steps to dream in; 80 by default, 30 of classes.", min=1)
    save_dreams: Path | None = option(
        "Keep what was dreamed: an .npz that --data reads, and of images a .png to look at.",
        metavar="FILE.npz",
    )
    device: str | None = option(
        "Where networks are run, dreams are dreamed and the aligner reads; cpu by default. Weights are mixed "
        "and units matched on the processor. Tested on the CPU only.",
        metavar="cpu|cuda|mps",
    )
    no_dream: bool = flag("Dream nothing: without --data the weights alone decide.")

    def __post_init__(self) -> None:
        """Also take what is said of dreams without --data as --data dream."""
        super().__post_init__()
        first = next((n for n in ("dream", "dream_steps", "save_dreams") if getattr(self, n)), None)
        if first and self.data is None:
            object.__setattr__(self, "data", DREAM)
        if self.no_dream and (first or self.data is not None):
            other = grouped.dashed(first) if first else "--data"
            raise UsageError(f"--no-dream and {other} exclude each other.", "leave one of them out.")

    def first_set(self) -> str | None:
        """The first of the options that was given, other than --data, as it is typed."""
        others = (f.name for f in fields(self) if f.name != "data" and getattr(self, f.name))
        return next(map(grouped.dashed, others), None)

    def idle(self, *, dreams: bool = False) -> str | None:
        """The first of the options that has no effect without --data, as it is typed.

        A network that is named is traced; the other options say what it is run on. One that `dreams` by
        itself dreams inputs of a shape.
        """
        traced = {"data", "no_dream", "device"}
        traced |= {"model", "model_arg", "input_shape"} if self.model else set()
        traced |= {"input_shape"} if dreams and not self.no_dream else set()
        others = (f.name for f in fields(self) if f.name not in traced and getattr(self, f.name))
        return next(map(grouped.dashed, others), None)

    def files(self) -> list[Path]:
        """The files and folders that are read, as far as they exist: no output may take their place."""
        from deepalign_cli.operations.run_settings import named_files

        return named_files(self.model, self.data, self.loss)

    def subject(self) -> RunSettings:
        """The same for the operations.

        Raises:
            UsageError: an argument is not KEY=VALUE.
        """
        from deepalign_cli.operations.run_settings import RunSettings

        values = dict(vars(self))
        arguments = pairs("--model-arg", values.pop("model_arg"))
        design = {british(key): text for key, text in pairs("--design", values.pop("design")).items()}
        splits = tuple(values.pop("split") or ())
        return RunSettings(arguments=arguments, design=design, splits=splits, **values)


def pairs(name: str, texts: Sequence[str] | None) -> Mapping[str, str]:
    """KEY=VALUE arguments of an option as a mapping.

    Raises:
        UsageError: one is not such a pair, or a key is there twice.
    """
    values: dict[str, str] = {}
    for text in texts or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f"'{text}' is not KEY=VALUE.", f"write {name} {key or 'key'}=value.")
        if key in values:
            raise UsageError(f"{name} {key} is given twice.", "leave one out.")
        values[key] = value
    return values
