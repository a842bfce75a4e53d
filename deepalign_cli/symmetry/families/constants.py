"""Tensors that touch no units: counters, single numbers, and constants of the inputs or outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from deepalign_cli.symmetry.families.words import tokens
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.tensor_names import MODULE_ROLES

_CONSTANTS = frozenset(
    [
        "mean",
        "std",
        "var",
        "variance",
        "min",
        "max",
        "log",
        "logstd",
        "sigma",
        "obs",
        "input",
        "output",
        "count",
        "action",
    ]
)


def without_constants(layout: Layout) -> tuple[Layout, tuple[str, ...]]:
    """The layout without the tensors that touch no units, and what is assumed of those."""
    modules = layout.modules().values()
    hidden = _hidden_widths([module.shapes["weight"] for module in modules if module.rank >= 2])
    still: set[str] = set()
    assumptions = []
    for module in modules:
        for role, name in module.names.items():
            shape = layout.shapes[name]
            if math.prod(shape) == 1 and not _belongs_to_a_layer(module, role):
                still.add(name)
            elif math.prod(shape) == max(shape) and role not in MODULE_ROLES and _is_constant(role):
                still.add(name)
                if max(shape) in hidden:
                    assumptions.append(
                        f"'{name}' {list(shape)} is assumed to hold constants of the inputs or outputs, "
                        "not of hidden units"
                    )
    shapes = {name: shape for name, shape in layout.shapes.items() if name not in still}
    return replace(layout, shapes=shapes), tuple(assumptions)


def _hidden_widths(shapes: Iterable[tuple[int, ...]]) -> set[int]:
    """The extents that one weight writes and another, or a flattening of it, may read."""
    pairs = [(shape[0], shape[1]) for shape in shapes if min(shape) > 0]
    return {out for out, _ in pairs if any(into % out == 0 for _, into in pairs)}


def _belongs_to_a_layer(module: Module, role: str) -> bool:
    """Whether a tensor of one number is a layer's bias, or part of a norm of one unit."""
    if role == "num_batches_tracked" or role not in MODULE_ROLES:
        return False
    return module.rank >= 2 or len(module.shapes) > 1


def _is_constant(role: str) -> bool:
    words = tokens(role)
    return bool(words) and set(words) <= _CONSTANTS
