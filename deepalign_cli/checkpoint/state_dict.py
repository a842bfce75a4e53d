"""Finding the weights in what a training script saved."""

from __future__ import annotations

from collections.abc import Mapping

from deepalign_cli.checkpoint.names import check_name
from deepalign_cli.checkpoint.pickle_values import Unsupported, View
from deepalign_cli.checkpoint.problems import Malformed, shown

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "ema")
MAX_DEPTH = 3


def find_state_dict(value: object) -> tuple[Mapping[str, View], tuple[str, ...]]:
    """The tensors by name, and notes on what was left out.

    Raises Malformed where there is no state dict, or a weight is of a kind that deepalign does not read.
    """
    notes: list[str] = []
    state = _search(value, notes, MAX_DEPTH)
    if state is None:
        hint = "save model.state_dict() with torch.save"
        raise Malformed(f"it holds no state dict but {_describe(value)}", hint)
    tensors = _weights(state)
    others = len(state) - len(tensors)
    if others:
        notes.append(
            "1 entry that is not a tensor was left out"
            if others == 1
            else f"{others} entries that are not tensors were left out"
        )
    return tensors, tuple(notes)


def _search(value: object, notes: list[str], depth: int) -> dict[object, object] | None:
    if not isinstance(value, dict) or not depth:
        return None
    for key in WRAPPERS:
        inner: list[str] = []
        state = _search(value.get(key), inner, depth - 1)
        if state is not None:
            others = [shown(other) for other in value if other != key and isinstance(other, str)]
            notes += [f"took {shown(key)}" + (f" and left {_listed(others)}" if others else ""), *inner]
            return state
    tensors = any(isinstance(item, View | Unsupported) for item in value.values())
    return value if tensors else None


def _weights(state: Mapping[object, object]) -> dict[str, View]:
    tensors = {}
    for key, item in state.items():
        if isinstance(item, Unsupported):
            hint = "convert it to a dense float tensor, or leave it out, and save again"
            raise Malformed(f"tensor {shown(key)} is {item.kind}, which deepalign does not read", hint)
        if isinstance(item, View):
            tensors[check_name(key)] = item
    return tensors


def _describe(value: object) -> str:
    if isinstance(value, dict):
        keys = [shown(key) for key in value if isinstance(key, str)]
        return f"a mapping of {_listed(keys)}" if keys else "an empty mapping"
    return "a single tensor" if isinstance(value, View | Unsupported) else shown(value)


def _listed(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
