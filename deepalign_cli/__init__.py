"""Merge neural networks that were trained separately: align their hidden units, then combine them.

    import deepalign_cli as da

    alignment = da.align(a, b)                    # paths, checkpoints, state dicts or modules
    state_dict = da.merge([a, b], alpha=0.5)
    curve = da.barrier(a, b, model=net, data=loader)

Everything here is imported when it is first used; `docs/api.md` describes it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from deepalign_cli.version import __version__ as __version__

if TYPE_CHECKING:
    from deepalign_cli.aligners.alignment import Alignment
    from deepalign_cli.api.functions import align, barrier, landscape, merge, open, trace, transport, verify
    from deepalign_cli.errors import DeepalignError
    from deepalign_cli.symmetry.spec import Spec
    from deepalign_cli.symmetry.symmetry import Symmetry

_PLACES = {
    **dict.fromkeys(
        ("align", "barrier", "landscape", "merge", "open", "trace", "transport", "verify"), "api.functions"
    ),
    "Alignment": "aligners.alignment",
    "DeepalignError": "errors",
    "Spec": "symmetry.spec",
    "Symmetry": "symmetry.symmetry",
}

__all__ = [
    "Alignment", "DeepalignError", "Spec", "Symmetry", "align", "barrier", "landscape", "merge", "open",
    "trace", "transport", "verify",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
