"""Networks with different vocabularies, brought to common rows: to be matched, and to be merged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.companions import companions
from deepalign_cli.checkpoint.gathered_rows import GatheredRows
from deepalign_cli.checkpoint.problems import shown
from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.vocabulary.joined import JoinedTokenizer, joined
from deepalign_cli.vocabulary.modes import Tokens
from deepalign_cli.vocabulary.row_places import RowPlaces, row_places
from deepalign_cli.vocabulary.token_axes import row_counts, token_axes
from deepalign_cli.vocabulary.token_rows import TokenRows
from deepalign_cli.vocabulary.tokenizer import Tokenizer, read_tokenizer

CONFIG = "config.json"
Index = Int64[Tensor, " _"]


@dataclass(frozen=True)
class Vocabulary:
    """Whose tokens the merged network has, and where its rows come from.

    `axes` has the axis of tokens by tensor. For each network `shared` has its rows of the tokens that all
    have; `rows` its row at each place of the output, and `read` at each of A's rows: -1 where it has none.
    `counts` are those of rows, and of `shared` and `new` tokens; `joined` are the tokenizer's files, where
    they are not A's.
    """

    mode: Tokens
    axes: Mapping[str, int]
    shared: tuple[Index, ...]
    rows: tuple[Index, ...]
    read: tuple[Index, ...]
    counts: Mapping[str, int]
    joined: JoinedTokenizer
    notes: tuple[str, ...] = ()

    def in_common(self, networks: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
        """The networks with the rows of the tokens that all have: what can be matched."""
        return tuple(self._seen(networks, self.shared))

    def placed(self, networks: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
        """The networks with a row for each row of the output: of zeros, where they have none."""
        return tuple(self._seen(networks, self.rows))

    def read_alike(self, networks: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
        """The networks with A's rows, of zeros where they have none: all can be run on A's tokens."""
        return tuple(self._seen(networks, self.read))

    def _seen(self, networks: Sequence[Checkpoint], indices: Sequence[Index]) -> Iterator[Checkpoint]:
        for place, (one, index) in enumerate(zip(networks, indices, strict=True)):
            name = next(iter(self.axes))
            whole = torch.arange(one.infos[name].shape[self.axes[name]])
            axes = {} if torch.equal(index, whole) else self.axes
            yield GatheredRows(one, axes, index, () if place else self.notes)

    def token_rows(self, *, has_base: bool) -> TokenRows:
        """Where rows come from; with a base, or in A's tokens, the first network's are lent."""
        rows = torch.stack([*self.rows])
        return TokenRows(self.axes, rows, first_lends=has_base or self.mode is Tokens.FIRST)

    def relabelled(self, spec: Spec, shapes: Mapping[str, tuple[int, ...]]) -> Spec:
        """The spec with as many tokens as tensors of these shapes have.

        Raises:
            MismatchError: the spec moves tokens.
        """
        axes = dict(spec.axes)
        for name, axis in self.axes.items():
            if name in axes and name in shapes:
                if any(axes[name][axis].groups()):
                    problem = f"the spec moves axis {axis} of '{name}', whose entries are tokens."
                    raise MismatchError(problem, "write a number in its place, or leave --tokenizer out.")
                own = Axis(((Atom(size=shapes[name][axis]),),))
                axes[name] = (*axes[name][:axis], own, *axes[name][axis + 1 :])
        return spec.with_axes(axes)


def vocabulary_of(networks: Sequence[Checkpoint], mode: Tokens) -> Vocabulary:
    """The vocabulary of a merge of networks, the first of them A (or the base), under A's names.

    Raises:
        MismatchError: a network has no tokenizer that can be read, or they share no token, or have no sound
            union. CheckpointError: a tokenizer's file is broken. UsageError: a network is no folder.
    """
    tokenizers = [_tokenizer(one) for one in networks]
    axes, notes = token_axes(networks)
    sizes = row_counts(networks, axes)
    union, orders = mode is Tokens.UNION, [one.order for one in tokenizers]
    places = row_places([one.rows for one in tokenizers], sizes, union=union, order=orders)
    names = [one.called for one in networks]
    if not places.shared[0]:
        problem = f"the tokenizers of {' and '.join(names)} share no token."
        raise MismatchError(problem, "leave --tokenizer out.")
    if places.lost is not None:
        problem = f"the tokenizer of {names[0]} has {shown(places.lost)}, for which no network has a row."
        raise MismatchError(problem, "merge in A's rows, --tokenizer A; or take that token out.")
    files = joined(tokenizers, names, places.new) if union else JoinedTokenizer()
    if len(places.rows[0]) != sizes[0]:
        files = _with_config(files, networks[0], sizes[0], len(places.rows[0]))
    counts = {"rows": len(places.rows[0]), "shared": len(places.shared[0]), "new": len(places.new)}
    told = (*notes, *_told(networks, tokenizers, sizes, places, union=union), *files.notes)
    alike = row_places([one.rows for one in tokenizers], sizes, union=False)
    kinds = (places.shared, places.rows, alike.rows)
    shared, rows, read = (tuple(map(torch.tensor, some)) for some in kinds)
    return Vocabulary(mode, axes, shared, rows, read, counts, files, told)


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    if not checkpoint.config:
        problem = f"'{checkpoint.path}' is not a folder of transformers with a config.json and a tokenizer."
        raise UsageError(problem, "--tokenizer needs these: give folders, not the files in them.")
    return read_tokenizer(companions(checkpoint)[0], checkpoint.path)


def _told(
    networks: Sequence[Checkpoint], tokenizers: Sequence[Tokenizer], sizes: Sequence[int], places: RowPlaces,
    *, union: bool,
) -> Iterator[str]:  # fmt: skip
    """What became of the tokens, a sentence for each network."""
    first = tokenizers[0].rows
    yield f"tokens that all have, combined row by row: {len(places.shared[0]):,}"
    for one, tokenizer, size in zip(networks, tokenizers, sizes, strict=True):
        lacks = [token for token, row in tokenizer.rows.items() if row >= size]
        if lacks:
            more = f", nor for {len(lacks) - 1:,} more" if len(lacks) > 1 else ""
            yield f"{one.called} has no row for {shown(lacks[0])} of its tokenizer{more}"
    for one, tokenizer in zip(networks[1:], tokenizers[1:], strict=True):
        other = sum(token not in first for token in tokenizer.rows)
        if other:
            fate = "added" if union else "left out"
            yield f"tokens of {one.called} that {networks[0].called} lacks, {fate}: {other:,}"


def _with_config(files: JoinedTokenizer, first: Checkpoint, before: int, after: int) -> JoinedTokenizer:
    """With a config.json that has the new number of rows in the place of the old one.

    Raises:
        MismatchError: it does not say that number.
    """
    config = dict(first.config)
    text = config.get("text_config")
    parts = [config, *([dict(text)] if isinstance(text, Mapping) else [])]
    told = [part for part in parts if part.get("vocab_size") == before]
    if not told:
        problem = f"the config.json of '{first.path}' has no vocab_size of {before}, which the union changes."
        raise MismatchError(problem, "write it there, or merge in A's tokens: --tokenizer A.")
    for part in told:
        part["vocab_size"] = after
    config |= {"text_config": parts[1]} if len(parts) > 1 else {}
    return replace(files, files={**files.files, CONFIG: (json.dumps(config, indent=2) + "\n").encode()})
