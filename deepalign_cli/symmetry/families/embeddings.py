"""Tables of embeddings before any other family: rows are tokens and stay, columns feed the first layer.

emb.weight  [50, 16]    50 emb
fc1.weight  [32, 16]    fc1 emb
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deepalign_cli.symmetry.axes import parse_axes
from deepalign_cli.symmetry.draft import ambiguous
from deepalign_cli.symmetry.families.first_layer import FirstLayer, fed, first_of_chain
from deepalign_cli.symmetry.families.recurrent import first_of_recurrent
from deepalign_cli.symmetry.families.words import is_embedding
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.sizes import solve_sizes
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import group_name


def match(layout: Layout, read: Callable[[Layout], Spec | None]) -> Spec | None:
    """The spec of a network behind embeddings, or None without; `read` reads what is behind them.

    Columns move where all tables are as wide as the first layer's inputs; else they stay.

    Raises:
        AmbiguousError: a table may add to hidden units. SpecError: as `read` does.
    """
    tables = sorted((m for m in layout.modules().values() if is_table(m)), key=lambda m: m.path)
    if not tables:
        return None
    rest = layout.without(tables)
    spec = read(rest)
    if spec is None:
        return None
    entry, widths = (
        first_of_recurrent(rest) or first_of_chain(rest),
        {table.shapes["weight"][1] for table in tables},
    )
    feeds = entry is not None and widths == {entry.width}
    hidden = {size: group for group, size in solve_sizes(spec, rest.shapes).items()}
    for table in tables:
        width = table.shapes["weight"][1]
        met = next((group for size, group in hidden.items() if size > 1 and width % size == 0), None)
        if met and not feeds:
            raise ambiguous(f"'{table.path}' is {width} wide and may feed or add to '{met}'.")
    return _written(spec, tables, entry) if entry and feeds else spec


def is_table(module: Module) -> bool:
    """Whether this is an embedding: a single matrix that is called one."""
    return set(module.shapes) == {"weight"} and module.rank == 2 and is_embedding(module.path)


def _written(spec: Spec, tables: list[Module], entry: FirstLayer) -> Spec:
    group = group_name(tables[0].path)
    spec = fed(spec, entry, group)
    axes = {t.names["weight"]: parse_axes(f"{t.shapes['weight'][0]} {group}") for t in tables}
    lines = [
        f"'{entry.path}' is assumed to read '{tables[0].path}' alone, with nothing between them that leaves "
        "no tensor and mixes its columns or tells them apart (fixed positions, flattening)"
    ]
    for table in tables:
        tokens, width = table.shapes["weight"]
        if tokens == width:
            lines.append(
                f"the rows of '{table.path}' {[tokens, width]} are assumed to be tokens, as its name says"
            )
    if len(tables) > 1:
        names = ", ".join(f"'{table.path}'" for table in tables)
        lines.append(f"{names} are assumed to be added or multiplied, column by column")
    return replace(spec, axes={**axes, **spec.axes}, assumptions=(*spec.assumptions, *lines))
