"""JSON from untrusted files: no duplicate keys, no NaN, no numbers or nesting without end."""

from __future__ import annotations

import json
from functools import partial
from typing import NoReturn

from deepalign_cli.checkpoint.problems import Malformed, shown

MAX_DIGITS = 19


def parse_json(data: bytes, what: str, *, floats: bool = False, digits: int = MAX_DIGITS) -> object:
    """The value that the UTF-8 text holds; integers, of at most so many `digits`, and with `floats` others.

    Raises Malformed, naming `what`.
    """
    number = float if floats else _no_float
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=partial(_bounded_int, digits=digits),
            parse_float=number,
            parse_constant=_no_constant,
        )
    except Malformed as problem:
        raise Malformed(f"{what} {problem}", problem.hint) from None
    except RecursionError:
        raise Malformed(f"{what} is nested too deeply") from None
    except UnicodeDecodeError:
        raise Malformed(f"{what} is not UTF-8 text") from None
    except ValueError:
        raise Malformed(f"{what} is not JSON") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"names {shown(twice)} twice")
    return table


def _bounded_int(text: str, digits: int) -> int:
    if len(text) > digits:
        raise Malformed(f"holds a number of {len(text)} digits")
    return int(text)


def _no_float(digits: str) -> NoReturn:
    raise Malformed(f"holds {shown(digits)} where a whole number belongs")


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"holds {name}, which is not JSON")
