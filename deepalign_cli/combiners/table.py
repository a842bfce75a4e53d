"""The table of combiners: the one place where a combiner is registered. Importing it loads no torch.

A combiner makes one tensor of the aligned networks' tensors of the same name. Its row says what it is called,
which options it has, how many inputs it takes and whether the first of them is a base; the command line, the
card of a merged network, `deepalign methods`, and the tables of the documents are made from the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepalign_cli.errors import UsageError
from deepalign_cli.parameters import Parameter, load, values_of
from deepalign_cli.registry import Table

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = "linear"

# The tensor of a name, from that tensor in every input, all in the reference's units.
Combine = Callable[[str, "Sequence[Tensor]"], "Tensor"]


@dataclass(frozen=True)
class Combiner:
    """One combiner.

    `loads` names, as "module:name", what is called with `weights` (one for each input, or for each but the
    base) and the values of `parameters`, and returns a `Combine`. `most` is how many inputs it takes,
    `base` whether the first of them is the base that the others were trained from. `sentence` is what a card
    says of the result, of "{count} networks".
    """

    name: str
    help: str
    paper: str
    loads: str
    sentence: str
    parameters: tuple[Parameter, ...] = ()
    most: int | None = None
    base: bool = False

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the parameters, by name.

        Raises:
            UsageError: a value that was given may not be used.
        """
        return values_of(self.parameters, given)

    def make(self, weights: Sequence[float], given: Mapping[str, Any]) -> Combine:
        """The function that combines tensors.

        Raises:
            UsageError: the weights or an option's value may not be used.
        """
        combine: Combine = load(self.loads)(weights=self.shares(weights), **self.values(given))
        return combine

    def shares(self, weights: Sequence[float]) -> tuple[float, ...]:
        """The weights over their sum.

        Raises:
            UsageError: one is negative or not finite, all are zero, or there are too many.
        """
        if self.most is not None and len(weights) > self.most:
            raise UsageError(
                f"{self.name} combines {self.most} networks, not {len(weights)}.",
                "merge more with --combine linear.",
            )
        total = math.fsum(weights)
        if not all(math.isfinite(w) and w >= 0 for w in weights) or total <= 0:
            raise UsageError(
                "weights must be finite, not negative, and not all zero.", "for example --weights 2,1,1."
            )
        return tuple(w / total for w in weights)

    def goals(self, weights: Sequence[float]) -> tuple[float, ...]:
        """The share of each input, base first, in the statistics that repair aims at."""
        return (*((0.0,) if self.base else ()), *self.shares(weights))


DENSITY = Parameter(
    "density", float, 0.2, "The share of entries to keep of each task vector; 0.2 by default.", 0, 1
)
LAMBDA = Parameter("lambda_", float, 1.0, "What the combined task vector is multiplied by; 1 by default.")

COMBINERS: Table[Combiner] = Table(
    "combiner",
    "deepalign.combiners",
    (
        Combiner(
            "linear", "the weighted average", "Model soups (Wortsman et al. 2022, arXiv 2203.05482)",
            "deepalign_cli.combiners.linear:WeightedMean", "The average of {count} networks.",
        ),
        Combiner(
            "slerp", "the arc between two networks, tensor by tensor", "Shoemake 1985",
            "deepalign_cli.combiners.slerp:Slerp", "A point on the arc between {count} networks.", most=2,
        ),
        Combiner(
            "ties", "what networks trained from one base agree on, added to the base",
            "TIES (Yadav et al. 2023, arXiv 2306.01708)", "deepalign_cli.combiners.ties:Ties",
            "What {count} networks, the first of them the base, agree on (TIES).",
            (DENSITY, LAMBDA), base=True,
        ),
    ),
)  # fmt: skip
