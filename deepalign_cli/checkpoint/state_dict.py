"""Finding the weights in what a training script saved.

A mapping that has tensors of its own is a state dict; mappings inside it continue its names, joined by dots.
Otherwise the wrappers that training scripts are known by come first; then the only mapping that holds tensors
is taken, or all of several that are parts of one network. Several that hold the same tensors are one network
more than once (EMA, a best epoch), and the user has to say which one: a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from deepalign_cli.checkpoint.names import check_name
from deepalign_cli.checkpoint.pickle_values import Unsupported, View
from deepalign_cli.checkpoint.problems import Malformed, shown
from deepalign_cli.errors import listed

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "ema")
ALL = "."  # the key that takes everything
MAX_DEPTH = 8
MAX_ENTRIES = 4_000_000  # more than a pickle can make, but for mappings that stand in many places
_SHOWN = 6
_HINT = "save model.state_dict() with torch.save"
# What trainers save beside the weights, which may hold tensors, too.
_TRAINING = re.compile(
    r"optim|^opt(_?\d*|_\w+)$|sched|scaler|rng|random|^loss|metric|history|^args$|config", re.I
)

State = dict[object, object]


def find_state_dict(value: object, key: str | None = None) -> tuple[Mapping[str, View], tuple[str, ...]]:
    """The tensors by name, and notes on what was left out.

    `key` is the path of the mapping to take, joined by dots.

    Raises Malformed where there is no state dict or there are several, or a weight is of a kind that
    deepalign does not read.
    """
    for _ in _entries(value):  # which has an end, then
        pass
    notes: list[str] = []
    state = _search(value, notes, MAX_DEPTH) if key is None else _at(value, key)
    if state is None:
        raise Malformed(f"it holds no state dict but {_describe(value)}", _HINT)
    tensors, others = _weights(state)
    if not tensors:
        raise Malformed(f"it holds no tensors under {shown(key)} but {_describe(state)}", _HINT)
    if others:
        notes.append(
            "1 entry that is not a tensor was left out"
            if others == 1
            else f"{others} entries that are not tensors were left out"
        )
    return tensors, tuple(notes)


def _at(value: object, key: str) -> State:
    """The mapping of a path.

    Raises Malformed where there is none.
    """
    place: object = value
    rest = "" if key == ALL else key
    while rest and isinstance(place, dict):
        inside = [name for name in place if isinstance(name, str) and f"{rest}.".startswith(f"{name}.")]
        name = max(inside, key=len, default=None)
        if name is None:
            break
        place, rest = place[name], rest[len(name) + 1 :]
    if rest or not isinstance(place, dict):
        raise Malformed(
            f"it has no state dict {shown(key)} but {_describe(value)}", "give --key one of these"
        )
    return place


def _search(value: object, notes: list[str], depth: int) -> State | None:
    if not isinstance(value, dict) or not depth:
        return None
    for key in WRAPPERS:
        inner: list[str] = []
        state = _search(value.get(key), inner, depth - 1)
        if state is not None:
            notes += [_took(key, value), *inner]
            return state
    if any(_is_tensor(item) and not _is_scalar(item) for item in value.values()):
        return value
    parts = {key: item for key, item in value.items() if _may_hold_weights(key, item)}
    if not parts:
        return value if any(_is_tensor(item) for item in value.values()) else None
    if len(parts) == 1:
        (key, item), inner = next(iter(parts.items())), []
        state = _search(item, inner, depth - 1)
        notes += [_took(str(key), value), *inner] if state is not None else []
        return state
    return _joined(value, parts, notes)


def _joined(value: State, parts: State, notes: list[str]) -> State:
    """All of several mappings, as parts of one network.

    Raises Malformed where two hold the same tensors.
    """
    first: dict[object, object] = {}
    for key, item in parts.items():
        same = first.setdefault(tuple(sorted(_layout(item))), key)
        if same is not key:
            problem = f"it holds the same tensors more than once: {listed([shown(k) for k in parts], _SHOWN)}"
            raise Malformed(problem, f"say which to take: --key {key} (--key {ALL} takes all as one network)")
    left = [shown(key) for key in value if key not in parts and isinstance(key, str)]
    names = listed([shown(key) for key in parts], _SHOWN)
    notes.append(f"took {names} as one network" + (f" and left {listed(left, _SHOWN)}" if left else ""))
    return parts


def _layout(item: object) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, tensor in _entries(item):
        yield name, tensor.shape if isinstance(tensor, View) else ()


def _took(key: str, value: State) -> str:
    others = [shown(other) for other in value if other != key and isinstance(other, str)]
    return f"took {shown(key)}" + (f" and left {listed(others, _SHOWN)}" if others else "")


def _may_hold_weights(key: object, item: object) -> bool:
    if not isinstance(item, dict) or not isinstance(key, str) or _TRAINING.search(key):
        return False
    is_optimizer = {"state", "param_groups"} <= item.keys()
    return not is_optimizer and any(_is_tensor(tensor) for _, tensor in _entries(item))


def _is_tensor(item: object) -> bool:
    return isinstance(item, View | Unsupported)


def _is_scalar(item: object) -> bool:
    return isinstance(item, View) and not item.shape


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """What a mapping and those inside it hold, by names joined by dots, down to `MAX_DEPTH`.

    Raises Malformed where there is no end to it.
    """
    waiting: list[tuple[str, object, int]] = [("", value, 0)]
    seen = 0
    while waiting:
        prefix, item, depth = waiting.pop()
        if not isinstance(item, dict) or depth == MAX_DEPTH:
            yield prefix, item
            continue
        seen += len(item)
        if seen > MAX_ENTRIES:
            raise Malformed(f"it holds more than {MAX_ENTRIES} entries", _HINT)
        start = f"{prefix}." if depth else ""
        named = [
            (f"{start}{key}" if isinstance(key, str) else "", part, depth + 1) for key, part in item.items()
        ]
        waiting += reversed(named)


def _weights(state: State) -> tuple[dict[str, View], int]:
    """The tensors by name, and how many entries are none."""
    tensors: dict[str, View] = {}
    others = 0
    for name, item in _entries(state):
        if isinstance(item, Unsupported):
            hint = "convert it to a dense float tensor, or leave it out, and save again"
            raise Malformed(f"tensor {shown(name)} is {item.kind}, which deepalign does not read", hint)
        if isinstance(item, View):
            if tensors.setdefault(check_name(name), item) is not item:
                raise Malformed(f"two of its tensors are called {shown(name)}")
        else:
            others += 1
    return tensors, others


def _describe(value: object) -> str:
    if isinstance(value, dict):
        keys = [shown(key) for key in value if isinstance(key, str)]
        return f"a mapping of {listed(keys, _SHOWN)}" if keys else "an empty mapping"
    return "a single tensor" if isinstance(value, View | Unsupported) else shown(value)
