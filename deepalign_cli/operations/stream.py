"""Writing a network that is made of others, one tensor of each in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.checkpoint import Checkpoint, Entry, write_safetensors
from deepalign_cli.combiners.combiner import Combine
from deepalign_cli.errors import MismatchError, NonFiniteError
from deepalign_cli.operations.finite import is_finite
from deepalign_cli.operations.provenance import provenance, with_hashes
from deepalign_cli.operations.session import check_hashes
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.stored_spec import SPEC_KEY
from deepalign_cli.symmetry.tensors import is_mixed


@dataclass
class Stream:
    """Reads one tensor of each input, moves it, combines it, and hands it to the writer.

    The output has the names and types of `layout`. `known` are tensors that are known already. Those of the
    layout alone are kept, moved by the alignment if it `moves_layout`: if that is the moving input. `spec` is
    what the metadata say in place of the alignment's.
    """

    inputs: Sequence[Checkpoint]
    alignments: Sequence[Alignment]
    layout: Checkpoint
    combine: Combine
    known: Mapping[str, Tensor] = field(default_factory=dict)
    spec: Spec | None = None
    moves_layout: bool = False

    def write(
        self, output: Path, facts: Mapping[str, object], hashes: Callable[[], tuple[str, ...]],
        settings: Settings, untouchable: Iterable[Path], progress: Progress = SILENT,
    ) -> dict[str, str]:  # fmt: skip
        """Write the network; returns its metadata.

        `facts` are what they say about the merge or alignment, `hashes` waits for the inputs' sha256.

        Raises:
            MismatchError: an alignment was made for others, or a tensor overflows.
            NonFiniteError: an input holds NaN or Inf. OutputError: the file cannot be written.
        """
        infos = [info for info in self.layout.infos.values() if not info.is_implied]
        names = {info.stored_name: info.name for info in infos}
        spec = self.spec or self.alignments[0].symmetry.spec
        is_known = bool(settings.spec) or spec.basis is not Basis.READ or SPEC_KEY in self.inputs[0].metadata
        metadata = provenance(self.layout, self.inputs, spec, facts, whole_spec=is_known)

        def read(stored: str) -> Tensor:
            tensor = self.tensor(names[stored])
            progress(tensor.nbytes)
            return tensor

        def finish() -> dict[str, str]:
            values = hashes()
            for alignment, moving in zip(self.alignments, values[1:], strict=True):
                if not settings.force:
                    check_hashes(alignment, values[0], moving)
            metadata.update(with_hashes(metadata, values))
            return metadata

        entries = [Entry(info.stored_name, info.dtype, info.shape) for info in infos]
        write_safetensors(
            output, entries, read, metadata, force=settings.force, inputs=tuple(untouchable), finish=finish
        )
        return metadata

    def tensor(self, name: str) -> Tensor:
        """One tensor of the network.

        Raises:
            MismatchError, NonFiniteError: it is not finite.
        """
        tensor = self.known[name] if name in self.known else self._combined(name)
        if is_mixed(tensor) and not is_finite(tensor):
            self._blame(name)
        return tensor

    def _combined(self, name: str) -> Tensor:
        if name not in self.inputs[0]:
            own = self.layout[name]
            return self.alignments[0].act(name, own) if self.moves_layout else own
        moved = (
            alignment.act(name, checkpoint[name])
            for checkpoint, alignment in zip(self.inputs[1:], self.alignments, strict=True)
        )
        return self.combine(name, [self.inputs[0][name], *moved])

    def _blame(self, name: str) -> None:
        for checkpoint in self.inputs if name in self.inputs[0] else [self.layout]:
            if not is_finite(checkpoint[name]):
                problem = f"'{name}' in '{checkpoint.path}' holds NaN or Inf."
                raise NonFiniteError(problem, "use an earlier checkpoint.")
        problem = f"'{name}' overflows its type when it is combined."
        raise MismatchError(problem, "convert the inputs to float32 first.")
