"""Which tensors have an entry for each token, and on which axis."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import MismatchError, MissingExtra, UnknownNetwork
from deepalign_cli.models.hugging_face import ignored_names, load_folder, renamed
from deepalign_cli.models.module import run_module, shapes_of
from deepalign_cli.symmetry import resolve

_MORE = 8  # tokens
_BY_NAME = re.compile(
    r"(^|\.)(wte|embed_tokens|tok_embeddings|word_embeddings|token_embedding|embed_in|embed_out|shared|lm_head"
    r"|final_logits_bias|cls\.predictions\.(decoder\.)?(weight|bias)|output_projection|proj_out)(\.|$)"
)


def token_axes(networks: Sequence[Checkpoint]) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """The axis of tokens, by the names of the tensors that have one in all networks; and notes.

    The first network's config.json tells: what grows with `vocab_size` has it. Where `transformers` does not
    build that network, the sizes do: the axes that are as long as each network's `vocab_size`.

    Raises:
        MismatchError: none has one, or the sizes do not tell.
    """
    axes, notes = _grown(networks[0]), list[str]()
    if axes is None:
        axes = _by_sizes(networks)
        notes.append("sizes and names told which rows are tokens: transformers does not build the network")
    axes = {name: axis for name, axis in axes.items() if all(_has(one, name, axis) for one in networks)}
    if not axes:
        problem = f"no tensor of '{networks[0].path}' has a row for each token."
        raise MismatchError(problem, "leave --tokenizer out.")
    return axes, tuple(notes)


def row_counts(networks: Sequence[Checkpoint], axes: Mapping[str, int]) -> list[int]:
    """How many rows each network has for tokens. Raises MismatchError where its tensors differ in that."""
    counts = []
    for one in networks:
        sizes = {name: one.infos[name].shape[axis] for name, axis in axes.items()}
        first = next(iter(sizes))
        for name, size in sizes.items():
            if size != sizes[first]:
                problem = f"'{name}' has {size} rows in '{one.path}', but '{first}' has {sizes[first]}."
                raise MismatchError(problem, "both must have a row for each token.")
        counts.append(sizes[first])
    return counts


def _grown(checkpoint: Checkpoint) -> dict[str, int] | None:
    """By two networks that differ in `vocab_size` alone; None where they cannot be built."""
    with suppress(MissingExtra, UnknownNetwork, MismatchError):
        model = load_folder(checkpoint.path, empty=True)
        larger = shapes_of(load_folder(checkpoint.path, empty=True, more_tokens=_MORE))
        own = shapes_of(model)
        run = run_module(
            model, resolve.shapes_of(checkpoint), unused=ignored_names(model), called=renamed(model)
        )
        return {
            name: next(axis for axis, size in enumerate(own[full]) if larger[full][axis] != size)
            for name, full in run.names.items()
            if full in own and own[full] != larger[full]
        }
    return None


def _by_sizes(networks: Sequence[Checkpoint]) -> dict[str, int]:
    sizes = [_vocab_size(one) for one in networks]
    differ = len(set(sizes)) > 1
    axes: dict[str, int] = {}
    for name, info in networks[0].infos.items():
        shapes = [one.infos[name].shape for one in networks if name in one] if info.is_float else []
        fits = [
            axis
            for axis in range(len(info.shape) if len(shapes) == len(networks) else 0)
            if all(axis < len(s) and s[axis] == n for s, n in zip(shapes, sizes, strict=True))
        ]
        if len(fits) > 1 or (fits and not (differ or _BY_NAME.search(name))):
            problem = f"whether the rows of '{name}' are tokens is not told by its name and shape."
            raise MismatchError(problem, "install transformers: pip install 'deepalign[models]'.")
        if fits:
            axes[name] = fits[0]
    return axes


def _has(one: Checkpoint, name: str, axis: int) -> bool:
    return name in one.infos and (one.infos[name].is_float) and axis < len(one.infos[name].shape)


def _vocab_size(checkpoint: Checkpoint) -> int:
    """What config.json says, at its top or in the part on text. Raises MismatchError where it does not."""
    parts = [checkpoint.config, checkpoint.config.get("text_config")]
    for part in parts:
        size = part.get("vocab_size") if isinstance(part, Mapping) else None
        if type(size) is int and size > 0:
            return size
    problem = f"the config.json of '{checkpoint.path}' has no vocab_size."
    raise MismatchError(problem, "give folders of transformers, with their config.json.")
