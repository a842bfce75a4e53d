"""Small example inputs of any network of `transformers`, from its signature and its configuration."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from deepalign_cli.errors import UsageError
from deepalign_cli.models.dummy_sizes import Sizes
from deepalign_cli.models.dummy_values import MAKERS
from deepalign_cli.models.example import Example

_TEXT = "input_ids"
_OTHERS = ("pixel_values", "input_features", "input_values", "pixel_values_videos")
_BESIDE = ("bbox",)  # given wherever they are taken
_ATTENTION = ("sdpa", "eager")
_EXPERTS = "batched_mm"


def dummy_inputs(model: nn.Module) -> Example:
    """Example inputs of a `transformers` model, by name; the model is set up for tracing, too.

    They are as small as the configuration lets them be, but nowhere of length one, and tokens are none that
    mean something to the code. Caches are turned off, and experts run as one product, without a loop whose
    length depends on values.

    Raises:
        UsageError: the class wants something that cannot be made up.
    """
    prepare(model)
    sizes = Sizes(model.config)
    wanted = wanted_inputs(model, sizes)
    unknown = [name for name in wanted if name not in MAKERS]
    if unknown:
        own = _own_dummies(model)
        if not set(unknown) <= set(own):
            raise _cannot(model, unknown[0])
        return Example((), own)
    values: dict[str, Any] = {name: MAKERS[name](sizes) for name in wanted}
    if "use_cache" in _parameters(model):
        values["use_cache"] = False
    return Example((), values)


def prepare(model: nn.Module) -> None:
    """Set a model up for tracing: no caches, experts in one product, attention in one operation."""
    for _, config in Sizes(model.config).parts:
        if getattr(config, "use_cache", False):
            config.use_cache = False
    for set_up, choices in (
        ("set_experts_implementation", [_EXPERTS]),
        ("set_attn_implementation", _ATTENTION),
    ):
        _first_allowed(getattr(model, set_up, None), choices)


def _first_allowed(set_up: Any, choices: Any) -> None:
    for choice in choices if set_up is not None else ():
        try:
            set_up(choice)
        except (ValueError, KeyError, ImportError, AttributeError):
            continue
        return


def wanted_inputs(model: Any, sizes: Sizes) -> list[str]:
    """The arguments that a model is called with."""
    parameters = _parameters(model)
    main = getattr(model, "main_input_name", _TEXT)
    wanted = [name for name, p in parameters.items() if p.default is p.empty]
    wanted += [name for name in ([main] if isinstance(main, str) else main) if _takes(model, name)]
    if _TEXT in parameters and not _has_placeholders(sizes):
        others = [name for name in _OTHERS if name in parameters]
        wanted += [_TEXT, *others[:1]] if others else []
    if "decoder_input_ids" in parameters:
        wanted.append("decoder_input_ids")
    wanted += [name for name in _BESIDE if name in parameters]
    return list(dict.fromkeys(wanted))


def _has_placeholders(sizes: Sizes) -> bool:
    """Whether images and sounds take the place of tokens, so that a text alone will do."""
    kinds = ("image", "video", "audio", "speech", "img")
    names = [f"{kind}_token_{end}" for kind in kinds for end in ("id", "index")]
    return sizes.get(*names, "image_token_ids", "boi_token_id") is not None


def _parameters(model: Any) -> dict[str, inspect.Parameter]:
    """What its forward takes by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(model.forward).parameters.items() if p.kind in named}


def _takes(model: Any, name: str) -> bool:
    kinds = [p.kind for p in inspect.signature(model.forward).parameters.values()]
    return name in _parameters(model) or inspect.Parameter.VAR_KEYWORD in kinds


def _own_dummies(model: Any) -> dict[str, Any]:
    """What transformers itself has for the class."""
    own = getattr(model, "dummy_inputs", None)
    return {k: v for k, v in own.items() if isinstance(v, Tensor)} if isinstance(own, dict) else {}


def _cannot(model: nn.Module, name: str) -> UsageError:
    return UsageError(
        f"{type(model).__name__} wants '{name}', for which deepalign has no example.",
        "give the network as code, with its inputs: --model file.py:factory, which returns (module, inputs).",
    )
