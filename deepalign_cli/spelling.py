"""American spellings of the few words that are British in options, recipes and designs."""

from __future__ import annotations

_BRITISH = {"normaliz": "normalis", "gray": "grey", "color": "colour"}


def british(name: str) -> str:
    """The name as this program spells it: `grey` for `gray`, `--normalise` for `--normalize`."""
    for american, word in _BRITISH.items():
        name = name.replace(american, word)
    return name
