"""Optional packages: imported where they are needed, with the exact install line where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from deepalign_cli.errors import MissingExtra


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module such as `matplotlib.figure`.

    Raises:
        MissingExtra: it, or what it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0]
        raise MissingExtra(
            f"{purpose} needs the package '{package}', which is not installed.",
            f"pip install 'deepalign[{extra}]'",
        ) from None
