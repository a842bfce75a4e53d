"""LoRA adapters as peft saves them: pairs of factors by module, what multiplies them, their configuration.

A module's weight changes by s B A, with A [r, in], B [out, r], and s = alpha / r, or
alpha / sqrt(r) (rsLoRA). The factors alone mean nothing: B M and M^-1 A are the same adapter for any
invertible M.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.hub import fetch_beside, is_reference, parse_reference
from deepalign_cli.checkpoint.problems import Malformed, blame
from deepalign_cli.checkpoint.strict_json import parse_json
from deepalign_cli.errors import CheckpointError, MismatchError
from deepalign_cli.operations.inputs import open_network

CONFIG = "adapter_config.json"
_LIMIT = 10_000_000
_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(?:\.(?!weight$)[\w-]+)?(?:\.weight)?"
)
_PREFIX = "base_model.model."
# How the first weights were drawn where the network they belong to stayed as it was.
_PLAIN_STARTS = (None, True, False, "true", "false", "gaussian", "eva", "orthogonal")
# What changes the meaning of the factors.
_OTHER_KINDS = {
    "use_dora": "DoRA", "lora_bias": "biases of their own (lora_bias)", "use_qalora": "QALoRA",
    "target_parameters": "factors of parameters (target_parameters)",
    "trainable_token_indices": "trained tokens (trainable_token_indices)",
    "alora_invocation_tokens": "activation by tokens (aLoRA)",
}  # fmt: skip


@dataclass(frozen=True)
class LoraPair:
    """The factors of one module: their names in the checkpoint and in the file, and what multiplies B A."""

    a: str
    b: str
    stored: tuple[str, str]
    scale: float


@dataclass(frozen=True)
class Adapter:
    """An adapter: factors by the module's path, `others` (biases, whole modules) by their stored names."""

    checkpoint: Checkpoint
    config: Mapping[str, object]
    modules: Mapping[str, LoraPair]
    others: Mapping[str, str]

    def factors(self, module: str) -> tuple[Tensor, Tensor]:
        """B [out, r] and A [r, in] of a module; of a convolution `in` counts the kernel's places, too."""
        pair = self.modules[module]
        return self.checkpoint[pair.b].flatten(1), self.checkpoint[pair.a].flatten(1)

    def rank(self, module: str) -> int:
        """The rank of a module's factors."""
        return self.checkpoint.infos[self.modules[module].a].shape[0]

    def shape(self, stored: str) -> tuple[int, ...]:
        """The shape of one of the others."""
        return self.checkpoint.infos[self.others[stored]].shape

    def sizes(self, module: str) -> tuple[int, tuple[int, ...]]:
        """How many outputs a module's weight has, and the shape of what each is computed from."""
        pair, infos = self.modules[module], self.checkpoint.infos
        return infos[pair.b].shape[0], infos[pair.a].shape[1:]


def find_adapters(inputs: tuple[Path, ...], key: str | None = None) -> tuple[Adapter, ...]:
    """The inputs as adapters; none where none of them is one.

    Raises:
        MismatchError: some are adapters and some are not, or one is of a kind that is not merged.
        CheckpointError: one is broken. UsageError: there is no such file.
    """
    found = [_opened(path, key) for path in inputs]
    if not any(found):
        return ()
    for path, one in zip(inputs, found, strict=True):
        if one is None:
            problem = f"'{path}' is not a LoRA adapter with its {CONFIG}, as other inputs are."
            hint = "merge adapters with adapters, each with its configuration beside it."
            raise MismatchError(problem, hint)
    return tuple(adapter_of(*one) for one in found if one is not None)


def adapter_of(checkpoint: Checkpoint, config: Mapping[str, object]) -> Adapter:
    """The adapter of a checkpoint and its configuration.

    Raises:
        MismatchError: it is of a kind whose factors do not add up. CheckpointError: a factor has no partner.
    """
    _check_kind(checkpoint, config)
    sides: dict[str, dict[str, str]] = {}
    others: dict[str, str] = {}
    for name, info in checkpoint.infos.items():
        match = _FACTOR.fullmatch(info.stored_name)
        if match:
            pair = sides.setdefault(match["module"].removeprefix(_PREFIX), {})
            if match["side"] in pair:
                problem = f"'{checkpoint.path}' holds more than one adapter: '{info.stored_name}' is another."
                raise MismatchError(problem, "save each to a folder of its own (peft: save_pretrained).")
            pair[match["side"]] = name
        elif "lora_" in info.stored_name:
            problem = f"'{info.stored_name}' in '{checkpoint.path}' is not a factor as peft names them."
            raise MismatchError(problem, "convert the adapter to the format of peft.")
        else:
            others[info.stored_name] = name
    with blame(checkpoint.path):
        modules = {module: _pair(checkpoint, config, module, pair) for module, pair in sides.items()}
    return Adapter(checkpoint, config, modules, others)


def _opened(path: Path, key: str | None) -> tuple[Checkpoint, Mapping[str, object]] | None:
    """A checkpoint with factors and its configuration; None where it is no adapter."""
    home = path if path.is_dir() else path.parent
    if not is_reference(path) and not (home / CONFIG).is_file():
        return None
    checkpoint = open_network(path, key)
    if not any(_FACTOR.fullmatch(info.stored_name) for info in checkpoint.infos.values()):
        return None
    if checkpoint.origin is None:
        return checkpoint, _read_config(home / CONFIG)
    files, _ = fetch_beside(parse_reference(checkpoint.origin), lambda name: name == CONFIG, _LIMIT)
    return (checkpoint, _read_config(files[CONFIG])) if CONFIG in files else None


def _read_config(path: Path) -> Mapping[str, object]:
    with blame(path):
        if path.stat().st_size > _LIMIT:
            raise Malformed(f"the file is longer than {_LIMIT:,} bytes")
        config = parse_json(path.read_bytes(), "the file", floats=True)
        if not isinstance(config, dict):
            raise Malformed("the file is not a JSON object")
    return config


def _check_kind(checkpoint: Checkpoint, config: Mapping[str, object]) -> None:
    kinds = [words for key, words in _OTHER_KINDS.items() if config.get(key)]
    if config.get("peft_type", "LORA") != "LORA":
        kinds.insert(0, f"peft's type {config['peft_type']}")
    start = config.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        kinds.append(f"a base that was changed at the start (init_lora_weights {start!r})")
    if any("lora_magnitude_vector" in name for name in checkpoint):
        kinds.append("DoRA")
    if kinds:
        problem = f"'{checkpoint.path}' is an adapter with {kinds[0]}: more than products of factors."
        raise MismatchError(problem, "merge each adapter into its base first (peft: merge_and_unload).")


def _pair(
    checkpoint: Checkpoint, config: Mapping[str, object], module: str, sides: Mapping[str, str]
) -> LoraPair:
    infos = checkpoint.infos
    if sides.keys() != {"A", "B"}:
        (there,) = sides.values()
        raise Malformed(f"the factor {infos[there].stored_name!r} has no partner")
    a, b = sides["A"], sides["B"]
    shapes = infos[a].shape, infos[b].shape
    fits = min(map(len, shapes)) > 1 and 0 < shapes[0][0] == shapes[1][1] and math.prod(shapes[1][2:]) == 1
    if not fits or 0 in (*shapes[0], *shapes[1]):
        raise Malformed(f"the factors of {module!r} have the shapes {list(shapes[0])} and {list(shapes[1])}")
    alpha = _for_module(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise Malformed(f"{CONFIG} says lora_alpha {alpha!r}")
    rank = shapes[0][0]
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return LoraPair(a, b, (_plain(infos[a].stored_name), _plain(infos[b].stored_name)), scale)


def _for_module(patterns: object, module: str, usual: object) -> object:
    """What a pattern says of a module: the end of its path. No expression of a stranger's is ever run."""
    if not isinstance(patterns, dict):
        return usual
    for pattern, value in patterns.items():
        if not re.fullmatch(r"\^?[\w.-]+\$?", pattern):
            problem = f"{CONFIG} has alpha_pattern '{pattern}', an expression, which is not evaluated."
            raise CheckpointError(problem, "write the modules' paths in the place of it.")
        path = pattern.strip("^$")
        if module == path or (module.endswith(f".{path}") and not pattern.startswith("^")):
            return value
    return usual


def _plain(stored: str) -> str:
    """A factor's name without the name of the adapter in it: `lora_A.default.weight`."""
    return re.sub(r"(\.lora_(?:embedding_)?[AB])\.(?!weight$)[\w-]+", r"\1", stored)
