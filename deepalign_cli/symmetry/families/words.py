"""What the words in layers' names say: what stands beside what, what comes first, and what is no chain."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LISTS = _words(
    "experts members models ensemble networks nets heads towers branches streams critics actors agents "
    "learners qs subnets paths columns estimators"
)
PARALLEL = LISTS | _words(
    "actor critic policy value pi vf qf q mu user item query generator discriminator student teacher online "
    "target tower branch stream expert left right rgb depth flow image text audio video advantage adv "
    "global local source fast slow view member g d forward backward subnet gate router"
)
SEQUENTIAL = _words(
    "layer layers block blocks stage stages conv convs group groups features feature module step level down "
    "up fc linear dense body dec decoder enc encoder section"
)
_FIRST = _words("input inp in stem first initial init start begin from embed embedding patch")
_EARLY = _words("backbone features feature encoder enc trunk bottom extractor convs conv bot")
_MIDDLE = _words("hidden hid mid middle body bottleneck layers layer linear fc dense mlp")
_LATE = _words("decoder dec neck top")
_LAST = _words(
    "output out head classifier cls logits final last pred predictor prediction predict score regressor end "
    "to readout"
)
_RANKS = {word: rank for rank, words in enumerate((_FIRST, _EARLY, _MIDDLE, _LATE, _LAST)) for word in words}
_BESIDE = _words(
    "gate gates gating attn attention key keys gamma beta film mask hh ih xh hx rnn cell se squeeze excite "
    "excitation skip shortcut downsample residual res identity highway carry transform modulation modulator "
    "style cond condition aux auxiliary bypass gru lstm recurrent router tok token tokens side shuffle"
)
_ORDINALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def tokens(path: str) -> list[str]:
    """The lower-case words of a path: `net.fcOut2` as net, fc, out; numbers are left out.

    >>> tokens("conv_rgb.0"), tokens("netG.h2o")
    (['conv', 'rgb'], ['net', 'g', 'h2o'])
    """
    words = re.findall(r"[A-Za-z]2[A-Za-z]|[A-Z]?[a-z]+|[A-Z]+(?![a-z])", path)
    return [word.lower() for word in words]


def stands_beside(path: str) -> str | None:
    """The word, if any, that says that a layer stands beside a chain: a gate, attention, a skip."""
    words = tokens(path)
    return next((w for w in words if w in _BESIDE or re.fullmatch(r"[a-z]2[a-z]", w)), None)


def words_before(first: str, second: str) -> bool | None:
    """Whether words such as input, hidden and out put `first` before `second`; None if they do not."""
    one, other = (_rank(path) for path in (first, second))
    if one is None or other is None or one == other:
        return None
    return one < other


def is_last(path: str) -> bool:
    """Whether a layer's name says that it stands at the end: a head, an output, a classifier."""
    return _rank(path) == len((_FIRST, _EARLY, _MIDDLE, _LATE))


def _rank(path: str) -> int | None:
    """The place of a path's most telling word: input first, head last."""
    ranks = [_RANKS[word] for word in tokens(path) if word in _RANKS]
    if not ranks:
        return None
    extremes = [rank for rank in ranks if rank in (0, 4)]
    return extremes[-1] if extremes else ranks[0]


def ordinal(path: str) -> int | None:
    """The number that the last word of a path spells: 2 for `layer_two`."""
    words = tokens(path)
    return _ORDINALS.index(words[-1]) if words and words[-1] in _ORDINALS else None


def is_embedding(path: str) -> bool:
    """Whether a module's own name says that it is a table of embeddings."""
    return any(word.startswith("emb") or word in ("wte", "wpe") for word in tokens(path.rpartition(".")[2]))


def has_word(path: str, beginnings: tuple[str, ...]) -> bool:
    """Whether a word of a module's own name begins with one of these.

    >>> has_word("body.group_norm1", ("gn", "group")), has_word("body.bn1", ("gn", "group"))
    (True, False)
    """
    return any(word.startswith(beginnings) for word in tokens(path.rpartition(".")[2]))
