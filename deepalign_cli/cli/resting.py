"""What a spec rests on, as `--json` says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepalign_cli.symmetry.spec import Spec


def resting(spec: Spec | None) -> dict[str, object]:
    """How a spec was obtained, and what it takes for granted; nothing where no spec was used."""
    return {} if spec is None else {"basis": spec.basis, "assumptions": list(spec.assumptions)}
