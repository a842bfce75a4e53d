"""What a tokenizer's own files say: the row of each token, and how text is cut. They are read as data alone.

tokenizer.json holds all of a fast tokenizer. Without it, vocab.json or vocab.txt has the rows, merges.txt
what a BPE joins, and added_tokens.json the tokens that were added; tokenizer_config.json may name more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from deepalign_cli.checkpoint.companions import LIMIT
from deepalign_cli.checkpoint.problems import Malformed, blame, shown
from deepalign_cli.checkpoint.strict_json import parse_json
from deepalign_cli.errors import MismatchError

FAST, CONFIG, ADDED = "tokenizer.json", "tokenizer_config.json", "added_tokens.json"
VOCAB, MERGES, WORDS = "vocab.json", "merges.txt", "vocab.txt"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_MOST_ROWS = 2**31
_DIGITS = 40  # tokenizer_config.json says int(1e30) for "any length"
# What of tokenizer_config.json decides how the slow tokenizers cut text.
_CUTTING = (
    "tokenizer_class", "do_lower_case", "strip_accents", "tokenize_chinese_chars", "do_basic_tokenize",
    "never_split", "add_prefix_space",
)  # fmt: skip

Table = dict[str, object]
Merges = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer of the `kind` BPE, WordPiece, WordLevel or Unigram, read from `file` and those beside it.

    `vocab` are the rows of the model's own tokens, `added` the entries of those that were added, with `id`
    and flags. `merges` are a BPE's, in their order, `scores` a Unigram's; `cuts` is all else that decides how
    text is cut. `table` is tokenizer.json, empty without one, and `config` tokenizer_config.json.
    """

    file: Path
    kind: str
    vocab: Mapping[str, int]
    added: Mapping[str, Table]
    merges: Merges = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    cuts: Mapping[str, object] = field(default_factory=dict)
    table: Table = field(default_factory=dict)
    config: Table = field(default_factory=dict)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each token."""
        return {**self.vocab, **{token: _row(entry.get("id"), token) for token, entry in self.added.items()}}

    @cached_property
    def tokens(self) -> dict[int, str]:
        """The token of each row; where there are two, the one that was added, which text is searched for."""
        return {row: token for token, row in self.rows.items()}

    @property
    def order(self) -> list[str]:
        """The model's tokens in the order of their rows, then those that were added alone."""
        added = (token for token in self.added if token not in self.vocab)
        return [*sorted(self.vocab, key=self.vocab.__getitem__), *added]


def read_tokenizer(files: Mapping[str, Path], source: Path) -> Tokenizer:
    """The tokenizer among the files beside the weights of `source`.

    Raises:
        MismatchError: there is none that can be read. CheckpointError: a file is broken.
    """
    for name, read in ((FAST, _fast), (VOCAB, _pairs), (WORDS, _words)):
        if name in files:
            config = _table(files[CONFIG]) if CONFIG in files else {}
            with blame(files[name]):
                return read(files, config)
    if any(name.endswith(".model") for name in files):
        problem = f"'{source}' has its tokenizer in a .model file alone, which deepalign does not read."
        raise MismatchError(
            problem, "save it as a fast one: AutoTokenizer.from_pretrained(A).save_pretrained(A)."
        )
    problem = f"'{source}' has no {FAST}, {VOCAB} or {WORDS}, so that its tokens are not known."
    raise MismatchError(problem, "give folders of transformers, with their tokenizers' files.")


def assigned(vocab: Mapping[str, int], size: int, added: Iterable[str]) -> dict[str, int]:
    """The rows that the library `tokenizers` gives to tokens that are added in this order.

    It does not look at the rows in the file: a token of the model, which has `size` entries, keeps its row,
    and others come after all of these.

    >>> assigned({"a": 0, "b": 1}, 2, ["b", "<x>", "<y>"])
    {'b': 1, '<x>': 2, '<y>': 3}
    """
    rows: dict[str, int] = {}
    last = -1
    for token in added:
        row = vocab.get(token)
        if row is None:
            row = last + 1 if last >= size else size
        rows[token], last = row, max(last, row)
    return rows


def _fast(files: Mapping[str, Path], config: Table) -> Tokenizer:
    table = _object(_json(files[FAST]), "the file")
    model = _object(table.get("model"), "its model")
    kind, scores = _kind(model), dict[str, float]()
    if kind == "Unigram":
        pieces = _pieces(model.get("vocab"))
        vocab, scores = {piece: row for row, (piece, _) in enumerate(pieces)}, dict(pieces)
        size = len(pieces)
    else:
        vocab = _rows(model.get("vocab"))
        size = len(vocab)
    entries = [_entry(item) for item in _list(table.get("added_tokens") or [], "its added tokens")]
    entries += [entry for entry in _configured(config) if entry["content"] not in vocab]
    added: dict[str, Table] = {}
    for entry in entries:
        added.setdefault(str(entry["content"]), entry)
    _check_text([*vocab, *added])
    _check_assigned(vocab, size, added)
    merges = _merges(_list(model.get("merges") or [], "its merges")) if kind == "BPE" else ()
    return Tokenizer(files[FAST], kind, vocab, added, merges, scores, _fast_cuts(table, vocab), table, config)


def _fast_cuts(table: Table, vocab: Mapping[str, int]) -> Table:
    model = _object(table["model"], "its model")
    left_out = ("vocab", "merges", "type", "unk_id")
    cuts = {key: value for key, value in model.items() if key not in left_out}
    cuts |= {key: table.get(key) for key in ("normalizer", "pre_tokenizer")}
    if (unknown := model.get("unk_id")) is not None:
        cuts["unk"] = next((token for token, row in vocab.items() if row == unknown), None)
    return {key: value for key, value in cuts.items() if value not in (None, False, "")}


def _pairs(files: Mapping[str, Path], config: Table) -> Tokenizer:
    """vocab.json, and merges.txt where it is a BPE's."""
    vocab = _rows(_json(files[VOCAB]))
    added = _added_beside(files, config, vocab)
    if MERGES not in files:
        return Tokenizer(files[VOCAB], "WordLevel", vocab, added, cuts=_slow_cuts(config), config=config)
    with blame(files[MERGES]):
        lines = [line for line in _lines(files[MERGES]) if line and not line.startswith("#version")]
        merges = _merges(lines)
    return Tokenizer(files[VOCAB], "BPE", vocab, added, merges, cuts=_slow_cuts(config), config=config)


def _words(files: Mapping[str, Path], config: Table) -> Tokenizer:
    """vocab.txt: a token a line."""
    vocab = {token: row for row, token in enumerate(_lines(files[WORDS]))}
    if not vocab:
        raise Malformed("it holds no tokens")
    added = _added_beside(files, config, vocab)
    return Tokenizer(files[WORDS], "WordPiece", vocab, added, cuts=_slow_cuts(config), config=config)


def _slow_cuts(config: Table) -> Table:
    return {name: config[name] for name in _CUTTING if config.get(name) is not None}


def _added_beside(files: Mapping[str, Path], config: Table, vocab: Mapping[str, int]) -> dict[str, Table]:
    """The added tokens of added_tokens.json and tokenizer_config.json."""
    entries = list(_configured(config))
    if ADDED in files:
        with blame(files[ADDED]):
            entries += [_plain(token, row) for token, row in _rows(_json(files[ADDED])).items()]
    added: dict[str, Table] = {}
    for entry in entries:
        token = str(entry["content"])
        known = vocab.get(token, added.get(token, entry)["id"])
        if known != entry["id"]:
            raise Malformed(f"{shown(token)} has the row {known}, and by another file {entry['id']}")
        added.setdefault(token, entry)
    _check_text([*vocab, *added])
    return added


def _configured(config: Table) -> Iterable[Table]:
    """The added tokens that tokenizer_config.json names."""
    decoder = config.get("added_tokens_decoder")
    for row, item in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(item, dict) and isinstance(row, str) and row.isdecimal() and len(row) < 11:
            yield _entry({**item, "id": int(row)})


def _check_assigned(vocab: Mapping[str, int], size: int, added: Mapping[str, Table]) -> None:
    for token, row in assigned(vocab, size, added).items():
        if added[token]["id"] != row:
            raise Malformed(
                f"it gives {shown(token)} the row {added[token]['id']}, where tokenizers would give it {row}",
                "load it with transformers where you trust it, and save it again.",
            )


def _kind(model: Table) -> str:
    kind = model.get("type")
    if kind is None:  # as the files of the first versions
        guesses = (("merges", "BPE"), ("continuing_subword_prefix", "WordPiece"))
        kind = next((name for key, name in guesses if key in model), "WordLevel")
        kind = "Unigram" if isinstance(model.get("vocab"), list) else kind
    if kind not in ("BPE", "WordPiece", "WordLevel", "Unigram"):
        raise Malformed(
            f"its model is of the type {shown(kind)}, which deepalign does not know", "update deepalign."
        )
    return str(kind)


def _entry(item: object) -> Table:
    """An added token, with all its flags."""
    entry = _object(item, "an added token")
    if not isinstance(entry.get("content"), str):
        raise Malformed("an added token has no content")
    row = _row(entry.get("id"), str(entry["content"]))
    return {"id": row, "content": entry["content"], **{flag: bool(entry.get(flag)) for flag in FLAGS}}


def _plain(token: str, row: int) -> Table:
    return {"id": row, "content": token, **dict.fromkeys(FLAGS, False)}


def _rows(value: object) -> dict[str, int]:
    table = _object(value, "its vocabulary")
    rows = {token: _row(row, token) for token, row in table.items()}
    if not rows:
        raise Malformed("its vocabulary is empty")
    if len(set(rows.values())) < len(rows):
        first: dict[int, str] = {}
        token, other = next((t, first[r]) for t, r in rows.items() if first.setdefault(r, t) != t)
        raise Malformed(f"it gives {shown(other)} and {shown(token)} the same row")
    return rows


def _row(value: object, token: str) -> int:
    if type(value) is not int or not 0 <= value < _MOST_ROWS:
        raise Malformed(f"it gives {shown(token)} the row {shown(value)}")
    return value


def _pieces(value: object) -> list[tuple[str, float]]:
    """A Unigram's pieces in the order of their rows, with their scores."""
    pieces = []
    for item in _list(value, "its vocabulary"):
        pair = _list(item, "a piece of its vocabulary")
        text, score = pair if len(pair) == 2 else (None, None)
        if not isinstance(text, str) or isinstance(score, bool) or not isinstance(score, int | float):
            raise Malformed("a piece of its vocabulary is not a text and a score")
        pieces.append((text, float(score)))
    if not pieces:
        raise Malformed("its vocabulary is empty")
    return pieces


def _merges(items: Sequence[object]) -> Merges:
    merges = []
    for item in items:
        pair = item.split(" ") if isinstance(item, str) else item
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise Malformed(f"a merge is {shown(item)}, not two tokens")
        merges.append((pair[0], pair[1]))
    return tuple(merges)


def _check_text(tokens: Sequence[str]) -> None:
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError:
        raise Malformed("a token is no text: it holds half a character") from None


def _table(path: Path) -> Table:
    with blame(path):
        return _object(_json(path), "the file")


def _json(path: Path) -> object:
    return parse_json(_bytes(path), "the file", floats=True, digits=_DIGITS)


def _bytes(path: Path) -> bytes:
    if path.stat().st_size > LIMIT:
        raise Malformed(f"the file is longer than {LIMIT:,} bytes")
    return path.read_bytes()


def _lines(path: Path) -> list[str]:
    """The lines as Python reads a text, without the end of the last."""
    try:
        text = _bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("the file is not UTF-8 text") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n") if text else []


def _object(value: object, what: str) -> Table:
    if not isinstance(value, dict):
        raise Malformed(f"{what} is not an object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise Malformed(f"{what} is not a list")
    return value
