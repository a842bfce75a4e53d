"""Networks whose design is written down: in the checkpoint's metadata, or in options with a `kind`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.keys import DESIGN_KEY
from deepalign_cli.checkpoint.problems import blame
from deepalign_cli.checkpoint.strict_json import parse_json
from deepalign_cli.errors import CheckpointError, UsageError, one_line
from deepalign_cli.models.designs import DESIGNS, Design, config_of, design_of
from deepalign_cli.models.fitting import Shape, check_fit
from deepalign_cli.symmetry.tensor_names import is_counter
from deepalign_cli.user_code import value_of

_HINT = "describe it with --design kind=..., or give it as code with --model file.py:factory."

# Designs that have no such option have this activation.
_ACTIVATIONS: Mapping[str, str] = {"siren": "sin", "resnet": "relu", "recurrent": "tanh"}


def stored_config(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The design in a checkpoint's metadata, as a table; None where there is none.

    Raises:
        CheckpointError: it is not a table.
    """
    text = checkpoint.metadata.get(DESIGN_KEY)
    if text is None:
        return None
    with blame(checkpoint.path):
        table = parse_json(text.encode("utf-8", "replace"), f"the metadata {DESIGN_KEY}", floats=True)
    if not isinstance(table, dict):
        raise CheckpointError(f"{checkpoint.path}: the metadata {DESIGN_KEY} is not a JSON object.")
    return table


def design_metadata(design: Design) -> dict[str, str]:
    """The metadata by which a checkpoint says what computes with its weights."""
    return {DESIGN_KEY: json.dumps(config_of(design))}


def read_design(
    config: Mapping[str, Any], options: Mapping[str, str], shapes: Mapping[str, Shape]
) -> tuple[Design, str]:
    """The design that a table describes, some of its entries replaced by options; and its words.

    Raises:
        UsageError: the kind, an option or a value is not known. MismatchError: it is not the checkpoint's.
    """
    changed = {name: _typed(str(config.get("kind")), name, text) for name, text in options.items()}
    design = design_of({**config, **changed})
    _check_size(design, len(shapes))
    check_fit(_shapes(design), shapes, _HINT, is_counter, what="design")
    table = config_of(design)
    words = " ".join(f"{name}={_shown(value)}" for name, value in table.items() if name != "kind")
    return design, f"{table['kind']} {words}"


def activation_of(design: Design) -> str:
    """The activation of a design."""
    return str(getattr(design, "activation", None) or _ACTIVATIONS[config_of(design)["kind"]])


def _typed(kind: str, name: str, text: str) -> object:
    """An option's text as the design takes it: a lone number is a list where a list belongs."""
    if kind not in DESIGNS or name == "kind":
        return text
    types = {field.name: str(field.type) for field in fields(DESIGNS[kind])}  # type: ignore[arg-type]
    value = value_of(text)
    if name not in types:
        raise UsageError(f"the design '{kind}' has no option '{name}'.", f"known: {', '.join(types)}.")
    if types[name].startswith("tuple"):
        return () if value is None else value if isinstance(value, tuple) else (value,)
    return text if types[name] == "str" else value


def _shapes(design: Design) -> dict[str, Shape]:
    """The shapes of a design's tensors, which take no memory: sizes may come from a stranger's file."""
    try:
        with torch.device("meta"):
            return {name: tuple(w.shape) for name, w in design.init(torch.Generator()).items()}
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        message = f"the design '{config_of(design)['kind']}' is impossible: {one_line(error)}."
        raise UsageError(message, _HINT) from None


def _check_size(design: Design, tensors: int) -> None:
    """Raise UsageError where a design has more layers than the checkpoint has tensors."""
    table = config_of(design)
    counts = [len(v) - 1 for v in table.values() if isinstance(v, list)]
    counts += [table[name] for name in ("blocks", "layers") if name in table]
    if max(counts, default=0) > tensors:
        message = f"the design '{table['kind']}' has more layers than the checkpoint has tensors."
        raise UsageError(message, _HINT)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
