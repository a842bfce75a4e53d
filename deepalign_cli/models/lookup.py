"""A checkpoint's network as a function of its weights: where its architecture comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.keys import PREPARATION_KEY
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.errors import UsageError
from deepalign_cli.models.designed import activation_of, read_design, stored_config
from deepalign_cli.models.designs import reads_tokens
from deepalign_cli.models.example import Example
from deepalign_cli.models.exported import load_program
from deepalign_cli.models.from_shapes import read_family
from deepalign_cli.models.hugging_face import ignored_names, load_folder, renamed
from deepalign_cli.models.module import make_module, run_module
from deepalign_cli.models.run import Run
from deepalign_cli.models.runnable import Runnable
from deepalign_cli.models.values import ReadNetwork
from deepalign_cli.symmetry.dialects import RESAVE
from deepalign_cli.symmetry.resolve import shapes_of


@dataclass(frozen=True)
class Network:
    """A network to run; `says` tells the user what it is and where that comes from.

    `input_shape` is one example's, where the architecture tells it and does not read tokens; `preparation`
    is how the checkpoint's metadata say that raw images are prepared.
    """

    run: Run
    says: str
    input_shape: tuple[int, ...] | None = None
    preparation: Preparation | None = None


def network_for(
    checkpoint: Checkpoint,
    source: str | None = None,
    *,
    args: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    activation: str | None = None,
) -> Network:
    """The network that a checkpoint's weights are of.

    `source` is `file.py:factory` or `package.module:factory` (which runs the user's own code, with `args`
    as keyword arguments), a folder with a `config.json`, or a `FILE.pt2` of `torch.export`, whose makers
    are trusted. Without one it is the design in the metadata, or a known family by names and shapes;
    `options` say what these do not tell, and with a `kind` describe a design in full. `activation` is
    what the user says elsewhere. Nothing in a checkpoint is ever run.

    Raises:
        UsageError: an argument makes no sense. DeepalignError: the user's own code raised.
        SpecError: names and shapes do not tell the network.
        MismatchError: it has other tensors than the checkpoint; they are listed.
        MissingExtra: an optional package is needed.
    """
    args, options = args or {}, options or {}
    _check_use(source, args, options)
    if source:
        return fit(checkpoint, open_module(source, args))
    run, says, shape = _from_checkpoint(checkpoint, options, activation)
    return Network(Runnable(run, shape), says, shape, _preparation(checkpoint))


@dataclass(frozen=True)
class Opened:
    """A module that `--model` names, before it is fitted to a checkpoint.

    `example` are inputs that come with it, `unused` tells names that a checkpoint may lack or have besides,
    `called` what the module calls a file's tensor.
    """

    module: nn.Module
    says: str
    example: Example | None = None
    hint: str = "the factory must build this very architecture."
    unused: Callable[[str], bool] = lambda _: False
    called: Callable[[str], str] = lambda name: name


def open_module(source: str, args: Mapping[str, str]) -> Opened:
    """The module of `file.py:factory`, of a folder with a `config.json`, or of a `FILE.pt2`.

    Raises:
        UsageError: there is no such thing. SpecError: transformers cannot build it.
        CheckpointError: the program cannot be read. DeepalignError: the user's own code raised.
    """
    _check_arguments(source, args)
    path = Path(source)
    if path.suffix == ".pt2":
        program, example = load_program(path)
        hint = "the program must be exported from this very architecture."
        return Opened(program, f"the exported program {path.name}", example, hint)
    if path.name == "config.json" or path.is_dir():
        folder = path.parent if path.name == "config.json" else path
        model = load_folder(folder)
        hint = f"the folder's config.json must be this very network's. If only names differ, {RESAVE}."
        says = f"{type(model).__name__} of {folder / 'config.json'}"
        return Opened(model, says, None, hint, ignored_names(model), renamed(model))
    module, example = make_module(source, args)
    options = " ".join(f"{name}={text}" for name, text in args.items())
    says = f"{type(module).__name__} of {source}" + (f" with {options}" if options else "")
    return Opened(module, says, example)


def fit(checkpoint: Checkpoint, one: Opened) -> Network:
    """The network of an opened module and a checkpoint's weights.

    Raises:
        MismatchError: it has other tensors than the checkpoint; they are listed.
    """
    run = run_module(one.module, shapes_of(checkpoint), one.hint, one.unused, one.called, one.example)
    return Network(Runnable(run), one.says, None, _preparation(checkpoint))


def _from_checkpoint(
    checkpoint: Checkpoint, options: Mapping[str, str], activation: str | None
) -> ReadNetwork:
    _check_agree(activation, options.get("activation"), "--design activation=")
    config = {"kind": options["kind"]} if "kind" in options else stored_config(checkpoint)
    if config is None:
        named = {"activation": activation} if activation else {}
        return read_family(checkpoint, {**named, **options})
    design, words = read_design(config, options, shapes_of(checkpoint))
    origin = "--design" if "kind" in options else "the checkpoint's metadata"
    if activation is not None:
        _check_agree(activation, activation_of(design), f"{origin}: activation=")
    shape = None if reads_tokens(design) else design.input_shape
    return design, f"{words}, from {origin}", shape


def _check_use(source: str | None, args: Mapping[str, str], options: Mapping[str, str]) -> None:
    if source is not None and options:
        raise UsageError(
            "--design and --model cannot be combined.",
            "leave one of them out; a factory's arguments are --model-arg k=v.",
        )
    _check_arguments(source, args)


def _check_arguments(source: str | None, args: Mapping[str, str]) -> None:
    factory = source is not None and ":" in source and not source.endswith(".pt2")
    if args and not factory:
        raise UsageError("--model-arg needs a factory.", "add --model file.py:factory.")


def _check_agree(activation: str | None, other: str | None, origin: str) -> None:
    if activation is not None and other is not None and activation != other:
        raise UsageError(f"--activation says {activation}, but {origin}{other}.", "correct --activation.")


def _preparation(checkpoint: Checkpoint) -> Preparation | None:
    text = checkpoint.metadata.get(PREPARATION_KEY)
    return None if text is None else Preparation.from_json(text, f"the metadata of '{checkpoint.path}'")
