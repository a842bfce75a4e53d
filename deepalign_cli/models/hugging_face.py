"""Folders with a `config.json`, built through `transformers` (an extra)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepalign_cli.errors import UnknownNetwork, UsageError, one_line
from deepalign_cli.extras import require

# Options that would fetch weights, or return more than the outputs.
_OFF = ("use_pretrained_backbone", "use_cache")


def load_folder(folder: Path, *, empty: bool = False, more_tokens: int = 0) -> nn.Module:
    """The network that a folder's `config.json` describes, fresh, in evaluation mode.

    Its class is the first of `architectures`, else what `AutoModel` takes for the config. Code that lies
    in the folder is never run, and nothing is fetched. An `empty` one has no values, on the device "meta";
    with `more_tokens` its vocabulary is larger by so many.

    Raises:
        UsageError: there is no config.json. MissingExtra: transformers is not installed.
        UnknownNetwork: this transformers does not know the network.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(f"there is no config.json in '{folder}'.", "give the folder of the model.")
    transformers: Any = require("transformers", "models", "a folder with a config.json")
    try:
        with _offline():
            config_of = transformers.AutoConfig.from_pretrained
            config = config_of(folder, local_files_only=True, trust_remote_code=False)
            for key in _OFF:
                if getattr(config, key, False):
                    setattr(config, key, False)
            if more_tokens:
                config.get_text_config().vocab_size += more_tokens
            with torch.device("meta") if empty else nullcontext():
                model: nn.Module = _build(transformers, config)
    except Exception as error:  # a config that is not the class's own raises nearly anything
        raise UnknownNetwork(
            f"transformers {transformers.__version__} cannot build '{folder}': {one_line(error)}.",
            "update transformers, or give the network as code: --model file.py:factory.",
        ) from error
    return model.eval()


def ignored_names(model: nn.Module) -> Callable[[str], bool]:
    """Whether a tensor is one that transformers itself leaves out or lets be absent, as old buffers."""
    patterns = [
        pattern
        for kind in ("_keys_to_ignore_on_load_unexpected", "_keys_to_ignore_on_load_missing")
        for pattern in getattr(model, kind, None) or ()
    ]
    return lambda name: any(re.search(pattern, name) for pattern in patterns)


def renamed(model: Any) -> Callable[[str], str]:
    """What the model calls a tensor of a file: transformers 5 has other names in memory than in files."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming
    except ImportError:  # an older transformers, which has one name for both
        return lambda name: name
    steps = [step for step in get_model_conversion_mapping(model) if isinstance(step, WeightRenaming)]

    def called(name: str) -> str:
        for step in steps:
            name = step.rename_source_key(name)[0]
        return name

    return called


def _build(transformers: Any, config: Any) -> Any:
    name = (getattr(config, "architectures", None) or [None])[0]
    cls = getattr(transformers, name, None) if isinstance(name, str) else None
    if isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel):
        return cls(config)
    return transformers.AutoModel.from_config(config, trust_remote_code=False)


@contextmanager
def _offline() -> Iterator[None]:
    """Keep the hub's client from the network, as its HF_HUB_OFFLINE does, and transformers from warning."""
    from huggingface_hub import constants  # with its HTTP client, which nothing else here needs
    from transformers.utils import logging

    before, verbosity = constants.HF_HUB_OFFLINE, logging.get_verbosity()
    constants.HF_HUB_OFFLINE = True
    logging.set_verbosity(40)  # errors
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.set_verbosity(verbosity)
