"""Tokenizers joined into one that has the tokens of all, as files; refused where that would not be sound.

Sound is a union that cuts text as one of the tokenizers does, or by their common rule over all tokens. So
they must be of one kind, and alike in all but their tokens. The merges of BPEs must be the same, or one list
the beginning of the other; pieces that Unigrams share must have the same scores. New tokens come behind A's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deepalign_cli.checkpoint.problems import shown
from deepalign_cli.errors import MismatchError
from deepalign_cli.vocabulary.tokenizer import (
    ADDED,
    CONFIG,
    FAST,
    FLAGS,
    MERGES,
    VOCAB,
    WORDS,
    Table,
    Tokenizer,
    assigned,
)

_STALE = (VOCAB, MERGES, WORDS, ADDED)
_HINT = "merge in A's tokens: --tokenizer A."


@dataclass(frozen=True)
class JoinedTokenizer:
    """The files of a union, in the place of A's (none: A's are right), and what the user should know."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def replaces(self, name: str) -> bool:
        """Whether A's file of this name is written anew, or would say something else than the union's."""
        is_tokenizer = name in _STALE or name.endswith(".model")
        return name in self.files or (is_tokenizer and not self.files.keys().isdisjoint((FAST, *_STALE)))


def joined(tokenizers: Sequence[Tokenizer], names: Sequence[str], new: Mapping[str, int]) -> JoinedTokenizer:
    """The first tokenizer with `new` tokens of the others at these rows, by the networks' `names`.

    Raises:
        MismatchError: they are of different kinds, or cut text in other ways; one sentence says which.
    """
    first, *others = tokenizers
    for other, name in zip(others, names[1:], strict=True):
        if reason := _difference(first, other):
            problem = f"the tokenizers of {names[0]} and {name} have no sound union: {reason}."
            raise MismatchError(problem, _HINT)
    longest = max(tokenizers, key=lambda one: len(one.merges))
    for other, name in zip(tokenizers, names, strict=True):
        if other.merges != longest.merges[: len(other.merges)]:
            problem = f"the tokenizers of {names[0]} and {name} have no sound union: their BPE merges differ."
            raise MismatchError(problem, _HINT)
    added = _added(tokenizers, new)
    if not new and added.keys() == first.added.keys():
        return JoinedTokenizer(notes=_notes(tokenizers, names))
    model = {token: row for token, row in new.items() if any(token in one.vocab for one in others)}
    write = _fast_files if first.file.name == FAST else _slow_files
    return JoinedTokenizer(write(first, longest, others, model, added), _notes(tokenizers, names))


def _difference(first: Tokenizer, other: Tokenizer) -> str | None:
    """Why the two have no sound union, if they have none; merges are compared elsewhere."""
    kinds = [f"{one.kind} ({one.file.name})" for one in (first, other)]
    if kinds[0] != kinds[1]:
        return f"one is {kinds[0]}, the other {kinds[1]}"
    keys = sorted({*first.cuts, *other.cuts})
    if differs := [key for key in keys if first.cuts.get(key) != other.cuts.get(key)]:
        return f"they differ in '{differs[0]}'"
    for piece, score in first.scores.items():
        if other.scores.get(piece, score) != score:
            return f"the piece {shown(piece)} has other scores"
    return None


def _added(tokenizers: Sequence[Tokenizer], new: Mapping[str, int]) -> dict[str, Table]:
    """The added tokens of all, at their rows in the union; of one that two have, the first one's flags."""
    first, added = tokenizers[0], dict(tokenizers[0].added)
    for other in tokenizers[1:]:
        for token, entry in other.added.items():
            row = new.get(token, first.rows.get(token))
            if row is not None:
                added.setdefault(token, {**entry, "id": row})
    return dict(sorted(added.items(), key=lambda item: int(str(item[1]["id"]))))


def _notes(tokenizers: Sequence[Tokenizer], names: Sequence[str]) -> tuple[str, ...]:
    first, notes = tokenizers[0], []
    for other, name in zip(tokenizers[1:], names[1:], strict=True):
        both = first.added.keys() & other.added.keys()
        differ = [t for t in sorted(both) if any(first.added[t][f] != other.added[t][f] for f in FLAGS)]
        if differ:
            notes.append(
                f"{shown(differ[0])} is found in text as in {names[0]}, not as in {name}: its flags differ"
            )
        nested = first.vocab.keys() <= other.vocab.keys() or other.vocab.keys() <= first.vocab.keys()
        if first.kind in ("WordPiece", "Unigram") and not nested:
            notes.append(
                f"a word that neither {names[0]} nor {name} has whole may be cut into pieces of both"
            )
        templates = [one.table.get("post_processor") for one in (first, other)]
        if first.table and _unnumbered(templates[0]) != _unnumbered(templates[1]):
            notes.append(f"special tokens are put around texts as in {names[0]}, not as in {name}")
    return tuple(notes)


def _unnumbered(template: object) -> object:
    """A template without the rows of its tokens."""
    if isinstance(template, dict):
        return {key: _unnumbered(one) for key, one in template.items() if key != "ids"}
    if isinstance(template, list):
        return [_unnumbered(one) for one in template if type(one) is not int]
    return template


def _fast_files(
    first: Tokenizer, longest: Tokenizer, others: Sequence[Tokenizer], model: Mapping[str, int],
    added: Mapping[str, Table],
) -> dict[str, bytes]:  # fmt: skip
    """tokenizer.json, and tokenizer_config.json where A has one."""
    ids = {token: int(str(entry["id"])) for token, entry in added.items()}
    own, merged = first.table["model"], longest.table["model"]
    assert isinstance(own, dict)
    assert isinstance(merged, dict)
    table = dict(own)
    if first.kind == "Unigram":
        scores = {token: score for other in others for token, score in other.scores.items()}
        table["vocab"] = [*own["vocab"], *([token, scores[token]] for token in model)]
        rows, size = {**first.vocab, **model}, len(table["vocab"])
        behind = [row for row in model.values() if not len(own["vocab"]) <= row < size]
        if behind or assigned(rows, size, ids) != ids:
            problem = "a Unigram tokenizer that has added tokens behind its pieces takes no more pieces."
            raise MismatchError(problem, _HINT)
    else:
        rows = {**first.vocab, **model}
        if assigned(rows, len(rows), ids) != ids:
            rows |= ids  # tokens of the model keep their rows
        table["vocab"] = dict(sorted(rows.items(), key=lambda item: item[1]))
    if "merges" in merged:
        table["merges"] = merged["merges"]
    whole = {**first.table, "added_tokens": [*added.values()], "model": table}
    return {FAST: _json(whole), **_config_file(first, added)}


def _slow_files(
    first: Tokenizer, longest: Tokenizer, others: Sequence[Tokenizer], model: Mapping[str, int],
    added: Mapping[str, Table],
) -> dict[str, bytes]:  # fmt: skip
    """vocab.json and merges.txt, or vocab.txt; added_tokens.json, and tokenizer_config.json if A has it."""
    ids = {token: int(str(entry["id"])) for token, entry in added.items()}
    rows = dict(sorted({**first.vocab, **model, **ids}.items(), key=lambda item: item[1]))
    files = {ADDED: _json(ids), **_config_file(first, added)} if ids else _config_file(first, added)
    if first.file.name == VOCAB:
        merges = "".join(f"{a} {b}\n" for a, b in longest.merges)
        return (
            files | {VOCAB: _json(rows)} | ({MERGES: f"#version: 0.2\n{merges}".encode()} if merges else {})
        )
    if list(rows.values()) != list(range(len(rows))):
        raise MismatchError("a vocab.txt with added tokens far behind its lines takes no more lines.", _HINT)
    return files | {WORDS: "".join(f"{token}\n" for token in rows).encode()}


def _config_file(first: Tokenizer, added: Mapping[str, Table]) -> dict[str, bytes]:
    """tokenizer_config.json with all added tokens."""
    if not first.config:
        return {}
    old = first.config.get("added_tokens_decoder")
    decoder = dict(old) if isinstance(old, dict) else {}
    for entry in added.values():
        decoder.setdefault(str(entry["id"]), {"content": entry["content"], **{f: entry[f] for f in FLAGS}})
    return {CONFIG: _json({**first.config, "added_tokens_decoder": decoder})}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
