"""A spec in a file's metadata: its text, what it rests on, and what it takes for granted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from deepalign_cli.errors import AmbiguousError, SpecError
from deepalign_cli.symmetry.spec import Spec, format_spec, parse_spec

SPEC_KEY = "deepalign.spec"
BASIS_KEY = "deepalign.spec.basis"
ASSUMPTIONS_KEY = "deepalign.spec.assumptions"


def spec_metadata(spec: Spec, *, whole: bool = True) -> dict[str, str]:
    """What a file's metadata say of a spec; the text itself is left out unless `whole`."""
    about = {BASIS_KEY: str(spec.basis), ASSUMPTIONS_KEY: json.dumps(list(spec.assumptions))}
    return {SPEC_KEY: format_spec(spec), **about} if whole else about


def stored_spec(metadata: Mapping[str, str], source: str) -> Spec | None:
    """The spec in a file's metadata, with its assumptions; None where there is none.

    Raises:
        SpecError: what stands there is not a spec, or not a list of assumptions.
    """
    if SPEC_KEY not in metadata:
        return None
    spec = parse_spec(metadata[SPEC_KEY], source=source)
    try:
        lines = json.loads(metadata.get(ASSUMPTIONS_KEY, "[]"))
    except (ValueError, RecursionError):
        lines = None
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise SpecError(
            f"the assumptions in {source} are not a list of sentences.", "remove them, or give --spec."
        )
    return replace(spec, assumptions=tuple(lines))


def refuse_assumptions(spec: Spec) -> None:
    """What --strict asks for. Raises AmbiguousError where the spec takes something for granted."""
    if spec.assumptions:
        first, *others = spec.assumptions
        more = f" (and {len(others)} more)" if others else ""
        raise AmbiguousError(
            f"the spec rests on an assumption: {first}{more}.",
            "give the network (--model) or a spec (--spec), or leave --strict out.",
        )
