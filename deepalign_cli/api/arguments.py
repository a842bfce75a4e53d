"""Whatever a caller has, as what the library works on: checkpoints, runs and data sets."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deepalign_cli.aligners.methods import METHODS, Method, Onto
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.memory import MemoryCheckpoint
from deepalign_cli.data.dataset import Contents, Data
from deepalign_cli.data.factories import splits_of
from deepalign_cli.data.sources import Wanted, load_data
from deepalign_cli.errors import UsageError
from deepalign_cli.models.example import example_of
from deepalign_cli.models.lookup import Network, network_for
from deepalign_cli.models.module import run_module
from deepalign_cli.models.runnable import Runnable
from deepalign_cli.operations.asked import Asked
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.operations.run_settings import DREAM, RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.testbed import Testbed, open_testbed
from deepalign_cli.spelling import british
from deepalign_cli.symmetry.kinds import Kind, parse_kinds
from deepalign_cli.symmetry.resolve import shapes_of
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.user_code import guarded
from deepalign_cli.vocabulary.modes import Tokens

# A path (or hf://org/repo), an open checkpoint, a state dict, or a module.
Source = str | os.PathLike[str] | Checkpoint | Mapping[str, Tensor] | nn.Module
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SETTINGS = {f.name for f in fields(Settings)} - {"method", "options"}
_RUNNING = {f.name for f in fields(RunSettings)} - {"model", "data"}
_HINT = "give a path, a checkpoint, a state dict or an nn.Module."


def open_sources(sources: Sequence[Source], key: str | None = None) -> list[Checkpoint]:
    """Every source as an open checkpoint; those in memory are called A, B, C, ... by their place.

    `key` says which state dict to take of files that hold several.

    Raises:
        UsageError: there is no such file, or a source is none. CheckpointError: one is broken.
    """
    return [open_source(source, _LETTERS[i % len(_LETTERS)], key) for i, source in enumerate(sources)]


def open_source(source: Source, name: str = "network", key: str | None = None) -> Checkpoint:
    """One source as an open checkpoint."""
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, nn.Module):
        return MemoryCheckpoint(source.state_dict(), name)
    if isinstance(source, Mapping):
        return MemoryCheckpoint(source, name)
    if isinstance(source, str | os.PathLike):
        return open_network(Path(source), key)
    raise UsageError(f"{type(source).__name__} is not a network.", _HINT)


def settings_of(names: Sequence[str], given: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """The settings of the first of some methods, and the fields of `RunSettings` among what was `given`.

    Raises:
        UsageError: none of the methods has an option of a name, or its value may not be used.
    """
    rows = [METHODS.find(name) for name in names]
    given = {british(name): value for name, value in given.items()}
    common = {name: value for name, value in given.items() if name in _SETTINGS}
    running = {name: value for name, value in given.items() if name in _RUNNING}
    own = {name: value for name, value in given.items() if name not in common and name not in running}
    for name in own:
        users = [row for row in METHODS.values() if any(p.name == name for p in row.parameters)]
        if not users:
            raise UsageError(f"there is no option '{name}'.", "docs/api.md lists them.")
        if not any(row in rows and row.uses(name, own) for row in users):
            hint = f"leave it out, or give method={' or '.join(_user(row, name) for row in users)}."
            raise UsageError(f"method {' and '.join(map(repr, names))} makes no use of '{name}'.", hint)
    for row in rows:
        row.values(own)
    if isinstance(common.get("activation"), str):
        common["activation"] = _activation(common["activation"])
    if "onto" in common:
        common["onto"] = _onto(common["onto"])
    if common.get("tokenizer") is not None:
        common["tokenizer"] = _tokens(common["tokenizer"])
    if "kinds" in common:
        common["kinds"] = _kinds(common["kinds"])
    if isinstance(common.get("spec"), str | os.PathLike):
        common["spec"] = Path(common["spec"])
    if isinstance(running.get("splits"), str):
        running["splits"] = (running["splits"],)
    if isinstance(running.get("input_shape"), tuple | list):  # a tensor's shape, also torch.Size
        running["input_shape"] = "x".join(map(str, running["input_shape"]))
    for name in {"arguments", "design"} & running.keys():  # as they are typed on a command line
        running[name] = {key: str(value) for key, value in running[name].items()}
    return Settings(names[0], own, **common), running


def _user(row: Method, name: str) -> str:
    """A method that has an option, and what must be given for that to have an effect."""
    beside = row.only.get(name)
    return f"{row.name!r} with {beside[0]}={beside[1]!r}" if beside else repr(row.name)


def _activation(name: str) -> Activation:
    if name not in list(Activation):
        raise UsageError(f"there is no activation '{name}'.", f"it is one of {', '.join(Activation)}.")
    return Activation(name)


def _onto(name: str) -> Onto:
    if name not in list(Onto):
        raise UsageError(f"onto is {name!r}.", f"it is one of {', '.join(Onto)}.")
    return Onto(name)


def _tokens(name: str) -> Tokens:
    if name not in list(Tokens):
        raise UsageError(f"tokenizer is {name!r}.", f"it is one of {', '.join(Tokens)}.")
    return Tokens(name)


def _kinds(given: str | Iterable[str] | None) -> frozenset[Kind]:
    """The kinds of `"scale,sign"` or of `["scale", "sign"]`."""
    return parse_kinds(given if isinstance(given, str) else ",".join(given)) if given else frozenset()


def run_settings(given: Mapping[str, Any], data: Any) -> RunSettings:
    """What networks are run as and on; what is said of dreams without data asks for them."""
    dreams = any(given.get(name) for name in ("dream", "dream_steps", "save_dreams"))
    is_dream = (isinstance(data, str) and data == DREAM) or (data is None and dreams)
    path = given.get("save_dreams")
    paths = {} if path is None else {"save_dreams": Path(path)}
    return RunSettings(**{**given, **paths}, data=DREAM if is_dream else None)


def network_of(
    inputs: Sequence[Source], opened: Sequence[Checkpoint], model: Any, running: RunSettings,
    activation: Activation | None,
) -> Network | None:  # fmt: skip
    """The network, where one is given or an input is a module; else None.

    `model` is a module, `(module, example inputs)`, or what `--model` takes.

    Raises:
        UsageError: it is none of these. DeepalignError: it does not fit the checkpoint.
    """
    model = next((s for s in inputs if isinstance(s, nn.Module)), None) if model is None else model
    pair = model if isinstance(model, tuple) and len(model) == 2 else (model, None)
    if not isinstance(pair[0], nn.Module | str | os.PathLike | None):
        raise UsageError(
            f"{type(model).__name__} is not a model.", "give an nn.Module, or what --model takes."
        )
    if pair[0] is None:
        return None
    source = os.fspath(pair[0]) if isinstance(pair[0], str | os.PathLike) else None
    module, example = pair
    return _network(opened[0], module, example, replace(running, model=source), activation)


def testbed_of(
    opened: Sequence[Checkpoint], network: Network | None, data: Any, running: RunSettings,
    activation: Activation | None, *, measured: bool,
) -> Testbed | None:  # fmt: skip
    """What the networks are run as and on; None without data.

    `data` is arrays, a Dataset or a DataLoader, or what `--data` takes. Without a `network` it is what the
    checkpoint says.

    Raises:
        UsageError, DataError: the data are none, or do not fit the model.
    """
    if data is None or (isinstance(data, str) and data == DREAM):
        blank = RunSettings()
        changed = (f.name for f in fields(RunSettings) if getattr(running, f.name) != getattr(blank, f.name))
        used = {"no_dream", "device", "input_shape", *(("arguments",) if network else ())}
        idle = [name for name in changed if name not in used]
        if idle and data is None and running.data is None:
            raise UsageError(f"without data, '{idle[0]}' has no effect.", "give data=(inputs, labels).")
        return None
    running = replace(running, data="data")
    network = network or Asked(opened[0], running, activation.value if activation else None).network
    split = running.splits[0] if running.splits else None
    wanted = Wanted(running.normalise, running.side, running.grey)
    return open_testbed(
        opened[0], running, activation, measured=measured, network=network,
        data=_data(data, split, wanted, network, running.limit),
    )  # fmt: skip


def _network(
    reference: Checkpoint, model: Any, example: Any, running: RunSettings, activation: Activation | None
) -> Network:
    if isinstance(model, nn.Module):
        # A copy in evaluation mode, where the weights are: the caller's own keeps its mode and its gradients.
        own: Any = guarded(lambda: copy.deepcopy(model).cpu().eval(), type(model).__name__)
        inputs = None if example is None else example_of(example)
        run = run_module(own, shapes_of(reference), example=inputs)
        return Network(Runnable(run), type(model).__name__)
    return network_for(
        reference, running.model, args=running.arguments, options=running.design,
        activation=activation.value if activation else None,
    )  # fmt: skip


def _data(data: Any, split: str | None, wanted: Wanted, network: Network, limit: int | None) -> Data:
    if isinstance(data, Data):
        return data
    contents: Contents | None = None if isinstance(data, str | os.PathLike) else (splits_of(data, "data"), {})
    return load_data(
        os.fspath(data) if contents is None else "data", split, wanted=wanted,
        declared=network.preparation, limit=limit, contents=contents,
    )  # fmt: skip
