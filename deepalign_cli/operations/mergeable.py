"""Tensors that belong together, so that a mean of each by itself is not a mean of the networks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import MismatchError

_LORA = re.compile(r"(\.|^)lora_(A|B|down|up|embedding_[AB])(\.|$)")
_PACKED = re.compile(r"(\.|^)(qweight|qzeros|weight_packed|weight_quantized|SCB)$")
_SCALE = re.compile(r"(\.|^)(scales?|weight_scale(_inv)?|SCB|quant_state\S*|g_idx)$")
_MASK = re.compile(r"(\.|_|^)mask$")


def check_mergeable(inputs: Sequence[Checkpoint]) -> None:
    """Refuse integers with scales, which would stay A's, and factors, whose mean is not that of products.

    Raises:
        MismatchError: the weights are quantised, or hold factors of adapters.
    """
    for checkpoint in inputs:
        factors = [name for name in checkpoint if _LORA.search(name)]
        if factors:
            raise MismatchError(
                f"'{factors[0]}' in '{checkpoint.path}' is a factor of a LoRA adapter, and the mean of "
                "factors is not the mean of adapters.",
                "give the adapters' folders, with their adapter_config.json; or merge each adapter into its "
                "base first (peft: merge_and_unload).",
            )
        packed = [
            name for name, info in checkpoint.infos.items() if _is_quantised(name, info.is_float, checkpoint)
        ]
        if packed:
            raise MismatchError(
                f"'{packed[0]}' in '{checkpoint.path}' holds quantised weights: integers, whose scales are "
                "other tensors, cannot be averaged.",
                "merge the networks that they were made from, and quantise the merged one.",
            )


def notes_on_parts(inputs: Sequence[Checkpoint]) -> list[str]:
    """What a mean of masks is, where there are any."""
    return list(_on_masks(inputs))


def _is_quantised(name: str, is_float: bool, checkpoint: Checkpoint) -> bool:
    """An integer tensor that goes by a known name, or a weight with scales beside it."""
    if is_float:
        return False
    path = name.rpartition(".")[0]
    if _PACKED.search(name):
        return True
    beside = (other for other in checkpoint if other.rpartition(".")[0] == path and other != name)
    return name.endswith("weight") and any(_SCALE.search(other) for other in beside)


def _on_masks(inputs: Sequence[Checkpoint]) -> Iterator[str]:
    masks = [name for name, info in inputs[0].infos.items() if _MASK.search(name)]
    floats = [name for name in masks if inputs[0].infos[name].is_float]
    if floats:
        yield (
            f"pruning masks were averaged and are masks no more ('{floats[0]}'): make pruning permanent "
            "first (torch.nn.utils.prune.remove)"
        )
    elif masks:
        yield f"pruning masks are A's ('{masks[0]}'), not B's: make pruning permanent first"
