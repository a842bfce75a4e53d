"""Checking the sizes and counts of configurations."""

from __future__ import annotations

from collections.abc import Mapping


def check_integers(instance: object, least: Mapping[str, int]) -> None:
    """Raise ValueError unless each of these attributes is an integer of at least its least."""
    for name, low in least.items():
        value = getattr(instance, name)
        if type(value) is not int or not low <= value < 2**63:
            raise ValueError(f"{name} must be an integer of at least {low}, not {value!r}")
