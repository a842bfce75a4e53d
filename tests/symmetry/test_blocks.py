"""Blocks against a loop that writes out an axis entry by entry."""

from __future__ import annotations

import itertools

import pytest
import torch

from deepalign_cli.symmetry.axes import Atom, Axis, parse_axes
from deepalign_cli.symmetry.blocks import blocks, extent, order

SIZES = {"h": 3, "a": 2, "b": 4, "c": 5}
TEXTS = [
    "7", "a", "2*a*3", "a|b|a", "h*(a|b|c)", "h*(a|b)*2", "2*(a|b*3)", "(a|b)*(c|2)", "h*(2*(a|3)|b)|c",
    "((a))", "(a|b)|c",
]  # fmt: skip


def entries(axis: Axis) -> list[tuple[object, ...]]:
    """Every entry of an axis, in order: the path through the sums and the places of its atoms."""
    found: list[tuple[object, ...]] = []
    for number, term in enumerate(axis.terms):
        parts = [
            entries(factor) if isinstance(factor, Axis) else [(str(factor), i) for i in range(size(factor))]
            for factor in term
        ]
        found += [(number, *path) for path in itertools.product(*parts)]
    return found


def size(atom: Atom) -> int:
    return SIZES[atom.name] if atom.name else atom.size


def atoms_of(path: object) -> list[tuple[str, int]]:
    if isinstance(path, tuple) and len(path) == 2 and isinstance(path[0], str):
        return [path]
    return [pair for part in path if not isinstance(part, int) for pair in atoms_of(part)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", TEXTS)
def test_every_entry_stands_where_its_block_says(text: str) -> None:
    (axis,) = parse_axes(text)
    wanted = [atoms_of(path) for path in entries(axis)]
    assert extent(axis, SIZES) == len(wanted)
    seen = []
    for block in blocks(axis, SIZES):
        places = block.places()
        assert places.shape == block.sizes
        for index in itertools.product(*map(range, block.sizes)):
            place = block.start + sum(
                i * stride for i, (_, _, stride) in zip(index, block.factors, strict=True)
            )
            atoms = [(str(atom), i) for i, (atom, _, _) in zip(index, block.factors, strict=True)]
            assert wanted[place] == atoms
            assert int(places[index]) == place
            seen.append(place)
    assert sorted(seen) == list(range(len(wanted)))
    assert torch.equal(
        torch.tensor(seen).argsort(),
        found if (found := order(blocks(axis, SIZES))) is not None else torch.arange(len(seen)),
    )


@pytest.mark.parametrize(
    ("text", "views"), [("a|b*3", True), ("2*(a*3)", True), ("1*(a|b)", True), ("h*(a|b)", False)]
)
def test_neighbours_are_a_view_and_others_are_gathered(text: str, views: bool) -> None:
    (axis,) = parse_axes(text)
    w = torch.arange(2 * extent(axis, SIZES)).reshape(2, -1)
    for block in blocks(axis, SIZES):
        part = block.cut(w, 1)
        assert torch.equal(part, w[:, block.places().flatten()])
        assert (part.untyped_storage().data_ptr() == w.untyped_storage().data_ptr()) is views
