"""The arguments and options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from deepalign_cli.aligners.methods import Onto
from deepalign_cli.checkpoint.hub import set_offline
from deepalign_cli.checkpoint.info import CODES
from deepalign_cli.checkpoint.sharding import parse_size
from deepalign_cli.cli.grouped import flag, option
from deepalign_cli.cli.output import Output
from deepalign_cli.cluster import parse_engine
from deepalign_cli.errors import UsageError
from deepalign_cli.symmetry.kinds import Kind, parse_kinds
from deepalign_cli.symmetry.spec import Activation

INPUT, ALIGNING, MERGING, OUTPUT = "What the networks are", "How to align", "How to merge", "Output"

CheckpointA = Annotated[
    Path,
    typer.Argument(
        metavar="A", help="The reference: a .safetensors or PyTorch file, a folder, or hf://ORG/REPO."
    ),
]
CheckpointB = Annotated[
    Path,
    typer.Argument(metavar="B", help="The checkpoint that moves: a file, a folder or hf://ORG/REPO like A."),
]
Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="A B [C ...]",
        help="Two or more checkpoints, all aligned to the first: files, folders, or "
        "hf://ORG/REPO[@REVISION][/FILE].",
    ),
]


MergeInputs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="A B [C ...]", show_default=False,
        help="Two or more checkpoints, all aligned to the first: files, folders, or "
        "hf://ORG/REPO[@REVISION][/FILE]; or those of --recipe.",
    ),
]  # fmt: skip


@dataclass(frozen=True)
class ShowOptions:
    """How a result is shown."""

    json: bool = flag("Print one JSON object (errors too, on stderr).", OUTPUT)
    quiet: bool = flag(
        "Print only the output's path, if there is one, and assumptions on stderr.", OUTPUT, short="-q"
    )

    def sink(self, command: str) -> Output:
        """Where a command shows its result."""
        return Output(command, json=self.json, quiet=self.quiet)


def _offline(value: bool) -> bool:
    set_offline(value)
    return value


@dataclass(frozen=True)
class ReadOptions(ShowOptions):
    """The same for commands that read checkpoints."""

    offline: bool = flag(
        "Do not contact the Hugging Face Hub: hf:// reads its local cache.", INPUT, callback=_offline
    )


@dataclass(frozen=True)
class WriteOptions(ReadOptions):
    """The same for commands that write files."""

    force: bool = flag(
        "Overwrite existing files, and accept an alignment that was made for other inputs.", OUTPUT
    )


@dataclass(frozen=True)
class AlignedOptions(WriteOptions):
    """The same for commands that keep alignments."""

    partial: bool = flag(
        "Let heads of other classes and embeddings of other vocabularies be: all else is aligned, and the "
        "output keeps its own: A's in merge, B's in align.", ALIGNING,
    )  # fmt: skip

    save_alignment: Path | None = option(
        "Also save the alignment itself (a few kB), for --alignment later.", OUTPUT, metavar="FILE"
    )


@dataclass(frozen=True)
class ShardOptions(AlignedOptions):
    """The same for commands that write a network's weights."""

    max_shard_size: int | None = option(
        "Write the weights of a folder, OUT/, into files of at most this size and an index, as transformers "
        "does; 5GB by default. KB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB of 1024.", OUTPUT,
        metavar="SIZE", parser=parse_size,
    )  # fmt: skip

    def writing(self, *, is_folder: bool) -> dict[str, Any]:
        """What a job is given of these.

        Raises:
            UsageError: shards are asked for where one file is written.
        """
        if self.max_shard_size is not None and not is_folder:
            raise UsageError("--max-shard-size is for folders.", "write -o OUT/ for a folder.")
        return {} if self.max_shard_size is None else {"max_shard": self.max_shard_size}


@dataclass(frozen=True)
class ThreadOptions(ShardOptions):
    """The same for commands that do so in threads."""

    threads: int | None = option(
        "How many threads read, combine and write; one for each core by default.", OUTPUT, min=1
    )

    def writing(self, *, is_folder: bool) -> dict[str, Any]:
        """What a job is given of these.

        Raises:
            UsageError: shards are asked for where one file is written.
        """
        threads = {} if self.threads is None else {"threads": self.threads}
        return super().writing(is_folder=is_folder) | threads


@dataclass(frozen=True)
class WeightsOptions(ThreadOptions):
    """The same for commands that let workers do it, too."""

    engine: str | None = option(
        "Let the workers of Dask write the shards of a folder: processes of this machine, or those of a "
        "scheduler at an address. All hosts must see inputs and output at the same paths.", OUTPUT,
        metavar="dask[://HOST:PORT]", parser=parse_engine,
    )  # fmt: skip

    def writing(self, *, is_folder: bool) -> dict[str, Any]:
        """What a job is given of these.

        Raises:
            UsageError: shards or workers are asked for where one file is written.
        """
        if self.engine is not None and not is_folder:
            raise UsageError("--engine is for folders.", "write -o OUT/ for a folder.")
        engine = {} if self.engine is None else {"threads": 1, "engine": self.engine}  # threads of one task
        return engine | super().writing(is_folder=is_folder)


class OutputType(StrEnum):
    """What `--dtype` takes."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    @property
    def code(self) -> str:
        """What safetensors files call it."""
        return CODES[self.value]


@dataclass(frozen=True)
class FamilyOptions:
    """What a checkpoint may leave open about its architecture. None stands for what was not given."""

    activation: Activation | None = option(
        "The activation of the hidden units: tanh and sin also allow sign flips, relu and leaky_relu also "
        "allow rescaling, which a norm without tensors (InstanceNorm, F.normalize) would not pass.", INPUT,
    )  # fmt: skip
    kinds: frozenset[Kind] | None = option(
        "Also move scales or signs where the spec says that the network allows them.", INPUT,
        metavar="scale,sign", parser=parse_kinds,
    )  # fmt: skip
    strict: bool | None = option(
        "Refuse (exit code 3) where the spec takes something for granted that the file does not show.", INPUT
    )
    heads: int | None = option("Attention heads of a transformer; shapes alone do not tell.", INPUT, min=1)
    key: str | None = option(
        "Which state dict to take of a PyTorch file that holds several, such as ema or ema.module; . takes "
        "all as one network.", INPUT, metavar="KEY",
    )  # fmt: skip


@dataclass(frozen=True)
class SpecOptions(FamilyOptions):
    """The same, with a spec in a file, for commands that compare networks."""

    spec: Path | None = option(
        "Read the symmetry spec from this file instead of inferring it; 'deepalign inspect A --spec' writes "
        "one.", INPUT, metavar="FILE.toml",
    )  # fmt: skip
    seed: int | None = option(
        "Seed of the random numbers, 0 by default; the same seed gives the same result.", ALIGNING,
        min=0, max=2**63 - 1,  # torch's generators take no more
    )  # fmt: skip


@dataclass(frozen=True)
class AlignmentOptions(SpecOptions):
    """The same, with saved alignments, for commands that align."""

    alignment: list[Path] | None = option(
        "Use this saved alignment instead of computing one; repeat it for each input after the first.",
        ALIGNING, metavar="FILE",
    )  # fmt: skip
    onto: Onto | None = option(
        "What more than two networks are moved onto: the first (the default); the mean of all others, in "
        "turn and by the method itself (mean: MergeMany); or one another by weights, until nothing moves "
        "(universe). With these two their order does not matter.", ALIGNING,
    )  # fmt: skip
