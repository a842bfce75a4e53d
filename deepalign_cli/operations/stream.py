"""Writing a network that is made of others: by small pieces of tensors, or one tensor of each in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import check_hashes
from deepalign_cli.checkpoint import DTYPES, Checkpoint, Entry, TensorInfo
from deepalign_cli.checkpoint.placed import PlacedFile, placed_file
from deepalign_cli.combiners.combiner import Combine
from deepalign_cli.errors import MismatchError, NonFiniteError
from deepalign_cli.operations.finite import is_finite
from deepalign_cli.operations.pieces import MovedInput, Pieces
from deepalign_cli.operations.provenance import provenance, with_hashes
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.moves import Move
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.stored_spec import SPEC_KEY
from deepalign_cli.symmetry.tensors import is_mixed, is_trained, narrowed, widened
from deepalign_cli.threads import Task, run_tasks, usable_cores
from deepalign_cli.vocabulary.token_rows import TokenRows


@dataclass
class Stream:
    """Reads what makes a tensor, moves it, combines it, and hands it to the writer.

    The output has the names and types of `layout`, or floating-point numbers of the type `dtype`. Without
    `combine` it is the moving input. Where that is `elementwise`, tensors are made by pieces, in `threads`
    threads. `known` are tensors that are known already. Those of the layout alone are kept, moved by the
    alignment if it `moves_layout`: if that is the moving input. `spec` is what the metadata say in place of
    the alignment's. Where it `measures`, `measured` gives the alignments the distances of what was read;
    where it `checks`, inputs are looked at for NaN that the output might not show. `token_rows` says which
    input has which row, where these are of tokens that not all have.
    """

    inputs: Sequence[Checkpoint]
    alignments: Sequence[Alignment]
    layout: Checkpoint
    combine: Combine | None
    known: Mapping[str, Tensor] = field(default_factory=dict)
    spec: Spec | None = None
    moves_layout: bool = False
    elementwise: bool = False
    dtype: str | None = None
    threads: int = field(default_factory=usable_cores)
    measures: bool = False
    checks: bool = False
    token_rows: TokenRows | None = None
    _squares: list[tuple[int, float]] = field(default_factory=list)
    _sums: list[list[float]] = field(default_factory=list)

    @property
    def infos(self) -> list[TensorInfo]:
        """The tensors that are written to one file."""
        return [info for info in self.layout.infos.values() if not info.is_implied]

    def entries(self) -> list[Entry]:
        """The same as they are written."""
        return entries_of(self.layout, self.dtype)

    def metadata(self, facts: Mapping[str, object], settings: Settings) -> dict[str, str]:
        """What the output says of itself, the inputs' hashes left open; `facts` are about how it is made."""
        spec = self.spec or self.alignments[0].symmetry.spec
        is_known = bool(settings.spec) or spec.basis is not Basis.READ or SPEC_KEY in self.inputs[0].metadata
        return provenance(self.layout, self.inputs, spec, facts, whole_spec=is_known)

    def write(
        self, output: Path, facts: Mapping[str, object], hashes: Callable[[], tuple[str, ...]],
        settings: Settings, untouchable: Iterable[Path], progress: Progress = SILENT,
    ) -> dict[str, str]:  # fmt: skip
        """Write the network to one file; returns its metadata.

        `hashes` waits for the inputs' sha256.

        Raises:
            MismatchError: an alignment was made for others, or a tensor overflows.
            NonFiniteError: an input holds NaN or Inf. OutputError: the file cannot be written.
        """
        metadata, inputs = self.metadata(facts, settings), tuple(untouchable)
        with placed_file(output, self.entries(), metadata, force=settings.force, inputs=inputs) as file:
            self.fill(file, [info.name for info in self.infos], progress)
            metadata = self.finished(metadata, hashes, settings)
            file.set_metadata(metadata)
        return metadata

    def finished(
        self, metadata: Mapping[str, str], hashes: Callable[[], tuple[str, ...]], settings: Settings
    ) -> dict[str, str]:
        """The metadata with the inputs' hashes, after all was read.

        Raises:
            MismatchError: an alignment was made for others. CheckpointError: an input has changed meanwhile.
        """
        values = hashes()
        for checkpoint in self.inputs:
            checkpoint.check_unchanged()
        for alignment, moving in zip(self.alignments, values[1:], strict=True):
            if not settings.force:
                check_hashes(alignment, values[0], moving)
        return with_hashes(metadata, values)

    def fill(self, file: PlacedFile, names: Sequence[str], progress: Progress = SILENT) -> None:
        """Write tensors into an open file. Raises as `write` does."""
        pieced = [name for name in names if self._is_pieced(name)]
        small = (task for name in pieced for task in self._tasks(file, name))
        large = (partial(self._whole, file, name) for name in names if not self._is_pieced(name))
        run_tasks(small, large, self.threads, progress)

    def _is_pieced(self, name: str) -> bool:
        """Whether a tensor can be made by pieces."""
        if name in self.known or not (self.elementwise or self.combine is None):
            return False
        if self.token_rows and self.token_rows.axes.get(name):  # tokens along another axis than the first
            return False
        return not any(one.symmetry.turns(one.element, name) for one in self.alignments)

    def _tasks(self, file: PlacedFile, name: str) -> Iterator[Task]:
        stored, pieces = self.layout.infos[name].stored_name, self._pieces(name)
        for start, stop in pieces.spans():
            yield partial(self._piece, file, stored, name, pieces, start, stop)

    def _piece(self, file: PlacedFile, stored: str, name: str, pieces: Pieces, start: int, stop: int) -> int:
        parts = pieces.tensors(start, stop)
        made = self._checked(
            name, self._made(name, parts, start) if name in self.inputs[0] else self._cast(name, parts[0])
        )
        file.write_part(stored, start * pieces.width, made)
        return made.nbytes

    def _whole(self, file: PlacedFile, name: str) -> int:
        tensor = self.tensor(name)
        file.write(self.layout.infos[name].stored_name, tensor)
        return tensor.nbytes

    def _pieces(self, name: str) -> Pieces:
        moves = [alignment.symmetry.move(alignment.element, name) for alignment in self.alignments]
        shape, still = self.layout.infos[name].shape, Move(name, {}, {})
        if name not in self.inputs[0]:
            return Pieces([MovedInput(self.layout, name, moves[0] if self.moves_layout else still)], shape)
        moved = [MovedInput(c, name, move) for c, move in zip(self.inputs[1:], moves, strict=True)]
        first = [] if self.combine is None else [MovedInput(self.inputs[0], name, still)]
        by_rows = self.token_rows is not None and name in self.token_rows
        return Pieces([*first, *moved], shape, by_rows=by_rows)

    def tensor(self, name: str) -> Tensor:
        """One tensor of the network.

        Raises:
            MismatchError, NonFiniteError: it is not finite.
        """
        return self._checked(
            name, self._cast(name, self.known[name]) if name in self.known else self._combined(name)
        )

    def _combined(self, name: str) -> Tensor:
        if name not in self.inputs[0]:
            own = self.layout[name]
            return self._cast(name, self.alignments[0].act(name, own) if self.moves_layout else own)
        pairs = zip(self.inputs[1:], self.alignments, strict=True)
        moved = [alignment.act(name, checkpoint[name]) for checkpoint, alignment in pairs]
        return self._made(name, moved if self.combine is None else [self.inputs[0][name], *moved])

    def _made(self, name: str, parts: Sequence[Tensor], start: int = 0) -> Tensor:
        """The output of tensors, or of pieces of them from a row on, in the reference's units."""
        if self.token_rows is None or name not in self.token_rows:
            return self._mixed(name, parts)
        lent = self.token_rows.lent(name, parts, start)
        made = self._cast(name, self._mixed(name, lent), parts[0].dtype)
        own = [self._cast(name, w, made.dtype) for w in parts]
        return self.token_rows.restored(name, made, own, start)

    def _mixed(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        """The same where every input has every row."""
        if self.checks and not all(is_finite(w) for w in parts if is_mixed(w)):
            self._blame(name)
        if self.combine is None:
            return self._cast(name, parts[0])
        first, changes = parts[0], self.dtype not in (None, self.layout.infos[name].dtype)
        if all(w.is_floating_point() for w in parts) and (self.measures or changes):
            parts = [widened(w) for w in parts]  # once, and rounded once
        if self.measures and is_trained(name, first):
            self._measure(parts)
        return self._cast(name, self.combine(name, parts), first.dtype)

    def _measure(self, parts: Sequence[Tensor]) -> None:
        for place, moved in enumerate(parts[1:]):
            norm = torch.linalg.vector_norm(widened(parts[0]) - widened(moved))
            self._squares.append((place, float(norm) ** 2))

    def take_squares(self) -> list[float]:
        """What was measured since this was last asked: each moving input's squared distance."""
        taken, self._squares = self._squares, []
        count = len(self.alignments) * self.measures
        self.add_squares([math.fsum(square for at, square in taken if at == i) for i in range(count)])
        return self._sums[-1]

    def add_squares(self, squares: Sequence[float]) -> None:
        """Count squared distances of tensors that were read before, as `take_squares` returned them."""
        self._sums.append(list(squares))

    def measured(self, alignments: Sequence[Alignment]) -> list[Alignment]:
        """The alignments with the distances after them of all that was read, which are those before, too."""
        if not self.measures:
            return list(alignments)
        self.take_squares()
        sums = [math.sqrt(math.fsum(column)) for column in zip(*self._sums, strict=True)]
        pairs = zip(alignments, sums, strict=True)
        return [replace(one, distance_before=apart, distance_after=apart) for one, apart in pairs]

    def _cast(self, name: str, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor in the output's type, or else in `dtype`."""
        if not w.is_floating_point():
            return w
        wanted = getattr(torch, DTYPES[self.dtype].torch_name) if self.dtype else dtype
        return narrowed(w, wanted, name) if wanted not in (None, w.dtype) else w

    def _checked(self, name: str, tensor: Tensor) -> Tensor:
        if is_mixed(tensor) and not is_finite(tensor):
            self._blame(name)
        return tensor

    def _blame(self, name: str) -> None:
        for checkpoint in self.inputs if name in self.inputs[0] else [self.layout]:
            if not is_finite(checkpoint[name]):
                problem = f"'{name}' in '{checkpoint.path}' holds NaN or Inf."
                raise NonFiniteError(problem, "use an earlier checkpoint.")
        problem = f"'{name}' overflows its type when it is combined."
        raise MismatchError(problem, "convert the inputs to float32 first.")


def entries_of(layout: Checkpoint, dtype: str | None = None, *, implied: bool = False) -> list[Entry]:
    """The tensors of an output with this layout, floating-point ones in that type.

    With `implied` also those that the layout's file leaves out and only names.
    """
    return [
        Entry(info.stored_name, dtype if dtype and info.is_float else info.dtype, info.shape)
        for info in layout.infos.values()
        if implied or not info.is_implied
    ]
