"""The table of what a prediction of the learned aligner can be refined by. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

STEPS = 200  # of a refinement that trains


@dataclass(frozen=True)
class Refinement:
    """One candidate of `--refine auto`.

    `keeps` completes "kept ...", `data` says whether it needs data. Those with a `help` can be asked for by
    name; one that is `slow` is for what is kept of the others, where that takes a few seconds or is asked
    for. `loads` names, as "module:name", a function from a `Prediction` to an `Element`, or to a `Candidate`.
    """

    name: str
    keeps: str
    loads: str
    help: str = ""
    data: bool = False
    slow: bool = False


_IN = "deepalign_cli.aligners.candidates"

REFINEMENTS: Mapping[str, Refinement] = MappingProxyType(
    {
        row.name: row
        for row in (
            Refinement("none", "the prediction", f"{_IN}:as_predicted", "use it as it is"),
            Refinement(
                "prior", "the prediction, refined with its neighbours", f"{_IN}:with_neighbours",
                "weights decide where it hesitates",
            ),
            Refinement(
                "weights", "weight matching from the prediction", f"{_IN}:with_weights",
                "start weight matching from it",
            ),
            Refinement(
                "activations", "the prediction with activations", f"{_IN}:with_activations",
                "how units respond to --data counts as well", data=True,
            ),
            Refinement(
                "dual", "prediction, activations and weights together", f"{_IN}:with_both", data=True
            ),
            Refinement("activations alone", "activation matching", f"{_IN}:activations_alone", data=True),
            Refinement("dual alone", "activations and weights together", f"{_IN}:both_alone", data=True),
            Refinement(
                "ste", "the prediction, trained straight through the rounding",
                f"{_IN}:straight_through",
                "train what auto keeps on the loss half-way, for as many --steps as you like",
                data=True, slow=True,
            ),
        )
    }
)  # fmt: skip
