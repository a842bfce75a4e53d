"""The table of methods: the one place where a method is registered. Importing it loads no torch.

A method is a class (or a function that returns an aligner) in a file of its own. Its row says what it is
called, which options it has, and whether it needs data; the command line, the checks of which options go
together, `deepalign methods`, and the tables of the documents are made from the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deepalign_cli.aligners.refinements import REFINEMENTS, STEPS
from deepalign_cli.errors import UsageError
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.parameters import Parameter, load, values_of
from deepalign_cli.registry import Table

if TYPE_CHECKING:
    import torch

    from deepalign_cli.aligners.alignment import Aligner
    from deepalign_cli.aligners.evidence import Dreaming, Evidence

DEFAULT, ROTATIONS = "deepalign", "rotations"


class Onto(StrEnum):
    """What networks are moved onto."""

    FIRST = "first"
    MEAN = "mean"
    UNIVERSE = "universe"


class DataUse(StrEnum):
    """What a method does with data (and a network to run on them)."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True)
class Method:
    """One method.

    `loads` names, as "module:name", what is called with the values of `parameters` and, where data are of
    use, with `evidence` (which may be None where they are optional); it returns an `Aligner`. `seeded` says
    that the method draws random numbers, `dreams` that it dreams inputs by itself where there are no data,
    `turns` that it rotates groups that may turn, `reads` that it reads networks on a `device`. `only` says of
    a parameter beside which value of another one alone it has an effect.
    """

    name: str
    help: str
    paper: str
    loads: str
    parameters: tuple[Parameter, ...] = ()
    data: DataUse = DataUse.NONE
    seeded: bool = False
    dreams: bool = False
    turns: bool = False
    reads: bool = False
    only: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the parameters, by name.

        Raises:
            UsageError: a value that was given may not be used.
        """
        return values_of(self.parameters, given)

    def uses(self, option: str, given: Mapping[str, Any]) -> bool:
        """Whether an option has an effect beside those that were `given`."""
        if option in self.only:
            beside, value = self.only[option]
            return bool(given.get(beside) == value)
        return any(parameter.name == option for parameter in self.parameters)

    def data_use(self, given: Mapping[str, Any]) -> DataUse:
        """What data are for with the options that were `given`: a choice may need them, or have no use."""
        chosen = [(parameter, given.get(parameter.name)) for parameter in self.parameters]
        if any(value in parameter.need_data for parameter, value in chosen):
            return DataUse.REQUIRED
        return DataUse.NONE if any(value in p.no_data for p, value in chosen) else self.data

    def lacks_data(self, given: Mapping[str, Any]) -> UsageError:
        """What is raised where data are required and there are none."""
        chosen = [p for p in self.parameters if given.get(p.name) in p.need_data]
        what = f"{chosen[0].option} {given[chosen[0].name]}" if chosen else f"-m {self.name}"
        return UsageError(f"{what} needs data.", "add --data mnist.npz (docs/data.md), or --data dream.")

    def make(
        self, given: Mapping[str, Any], evidence: Evidence | None = None, dreaming: Dreaming | None = None,
        device: torch.device | None = None,
    ) -> Aligner:  # fmt: skip
        """The aligner, with the options that were `given` and defaults for the others.

        Raises:
            UsageError: an option's value may not be used, or the method needs data and there are none.
        """
        values = self.values(given)
        if evidence is None and self.data_use(given) is DataUse.REQUIRED:
            raise self.lacks_data(given)
        if self.data is not DataUse.NONE:
            values["evidence"] = evidence
        if self.dreams:
            values["dreaming"] = dreaming
        if self.reads and device is not None:
            values["device"] = device
        aligner: Aligner = load(self.loads)(**values)
        return aligner


NETWORK = Parameter(
    "network", str, DEFAULT_NETWORK,
    f"The trained network: one that comes with deepalign ({DEFAULT_NETWORK} by default), a file, or one on "
    "the Hugging Face Hub.",
    metavar="NAME|PATH|hf://ORG/REPO",
)  # fmt: skip
REFINE = Parameter(
    "refine", str, "auto",
    "How to refine the prediction. auto, the default, tries all with --data and keeps the one with the "
    "lowest midpoint loss on training data; without data it takes prior, or weights where the weights "
    "contradict the prediction. Of small networks without BatchNorm it then trains what it has (ste), on "
    "data or on dreams. " + " ".join(f"{r.name}: {r.help}." for r in REFINEMENTS.values() if r.help),
    choices=("auto", *(r.name for r in REFINEMENTS.values() if r.help)),
    need_data=frozenset(r.name for r in REFINEMENTS.values() if r.help and r.data),
    no_data=frozenset(r.name for r in REFINEMENTS.values() if not r.data),
)  # fmt: skip
SKETCHES = Parameter(
    "sketches", int, 8,
    "The most random readings of inputs and outputs to average; 8 by default. One is enough where it shows "
    "which units belong together.", 1, 64,
)  # fmt: skip
SHARE = Parameter(
    "share", float, 0.5, "How much activations count beside weights, between 0 and 1; 0.5 by default.", 0, 1
)
RESTARTS = Parameter(
    "restarts", int, None,
    "Try N random orders and keep the closest; by default up to 10 for small networks.", 1,
)  # fmt: skip

AUTOENCODER = Parameter(
    "autoencoder", str, None,
    "The autoencoder that writes canonical networks: one that comes with deepalign (by default the one that "
    "fits), a file, or one on the Hugging Face Hub.",
    metavar="NAME|PATH|hf://ORG/REPO/FILE",
)  # fmt: skip
TRAINED = Parameter("steps", int, STEPS, f"How many steps to train; {STEPS} by default.", 1)
PATH_STEPS = Parameter(
    "path_steps", int, 300,
    "How many steps to turn heads and streams along the gradient of the loss half-way; 300 by default, 0 for "
    "none.", 0,
)  # fmt: skip
TEMPERATURE = Parameter(
    "temperature", float, 1.0,
    "What logits are divided by; 1 by default. Lower brings soft permutations nearer to hard ones.",
    0.01, 100,
)  # fmt: skip
START = Parameter(
    "start", str, "prediction",
    "Where training starts: at the trained network's prediction (the default), or from scratch.",
    choices=("prediction", "scratch"),
)  # fmt: skip

METHODS: Table[Method] = Table(
    "method",
    "deepalign.methods",
    (
        Method(
            "deepalign", "a trained network predicts the alignment in one pass, which is then refined",
            "Deep-Align (Navon et al. 2024, arXiv 2310.13397)",
            "deepalign_cli.aligners.deepalign:learned_aligner", (NETWORK, REFINE, SKETCHES, TRAINED),
            DataUse.OPTIONAL, seeded=True, dreams=True, reads=True,
            only={"steps": ("refine", "ste")},
        ),
        Method(
            "weights", "match units by their weights, group by group, until nothing moves",
            "Git Re-Basin (Ainsworth et al. 2023, arXiv 2209.04836)",
            "deepalign_cli.aligners.weights:WeightMatching", (RESTARTS,), seeded=True,
        ),
        Method(
            "canonical", "carry each network by itself onto the one that an autoencoder writes for it",
            "ScaleGMN autoencoders (Boufalis et al. 2025, arXiv 2511.12601)",
            "deepalign_cli.aligners.anchored:AnchorMatching", (AUTOENCODER,),
        ),
        Method(
            "activations", "match units by how alike they respond to data",
            "Convergent Learning (Li et al. 2015, arXiv 1511.07543)",
            "deepalign_cli.aligners.activations:ActivationMatching", data=DataUse.REQUIRED,
        ),
        Method(
            "dual", "match by weights and activations together",
            "MuDSC (Xu et al. 2024, arXiv 2403.01753)", "deepalign_cli.aligners.dual:DualMatching",
            (SHARE,), DataUse.REQUIRED,
        ),
        Method(
            "sinkhorn", "train soft permutations on the loss along the path, then round them",
            "Sinkhorn re-basin (Pena et al. 2023, arXiv 2212.12042)",
            "deepalign_cli.aligners.sinkhorn:SinkhornRebasin", (TRAINED, TEMPERATURE, START),
            DataUse.REQUIRED, seeded=True,
        ),
        Method(
            ROTATIONS, "turn heads and residual streams of transformers, besides permuting units",
            "Generalized LMC for transformers (Theus et al. 2025, arXiv 2506.22712)",
            "deepalign_cli.aligners.rotations:RotationMatching", (PATH_STEPS,), DataUse.OPTIONAL, seeded=True,
            dreams=True, turns=True,
        ),
        Method("none", "leave B as it is: the baseline", "", "deepalign_cli.aligners.none:NoAlignment"),
    ),
)  # fmt: skip
