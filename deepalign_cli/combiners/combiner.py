"""A row of the table of combiners: what a combiner is called, takes and needs. Importing it loads no torch.

A combiner makes one tensor of the aligned networks' tensors of the same name. The command line, the card of a
merged network, `deepalign methods`, and the tables of the documents are made from the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deepalign_cli.errors import UsageError
from deepalign_cli.parameters import Parameter, load, values_of

if TYPE_CHECKING:
    from torch import Tensor

# The tensor of a name, from that tensor in every input, all in the reference's units.
Combine = Callable[[str, "Sequence[Tensor]"], "Tensor"]


class Weighing(StrEnum):
    """What a combiner does with the weights of the networks."""

    SHARES = "shares"  # divided by their sum; equal by default
    FACTORS = "factors"  # as they are given, below 0 too; 1 by default
    NONE = "none"  # it finds its own


@dataclass(frozen=True)
class Combiner:
    """One combiner.

    `loads` names, as "module:name", what is called with `weights` (one for each network, not for a base, as
    `weighing` says), the values of `parameters` and, where it is `seeded`, `seed`; it returns a `Combine`.
    Where it needs data, `prepares` names what makes a network's statistics: called with a run, weights and
    batches, and `seed` and `values` (outputs are no classes); the combiner then is called with `statistics`,
    one for each network. `least` and `most` are how many networks it takes besides a base; `base` says that
    the first input is the base that the others were trained from, unless that is an `optional_base` and none
    is given. `sentence` is what a card says of the result, of "{count} networks". An `elementwise` one
    makes each entry of the entries at that place alone, NaN where one is NaN: it gets pieces of tensors, in
    several threads. One that makes whole networks `encodes` the inputs: that names what makes statistics of
    them without data, called with the symmetry, the networks and the autoencoder's name or None. It goes
    with one `method` alone, which then is the default.
    """

    name: str
    help: str
    paper: str
    loads: str
    sentence: str
    parameters: tuple[Parameter, ...] = ()
    most: int | None = None
    base: bool = False
    least: int = 1
    optional_base: bool = False
    weighing: Weighing = Weighing.SHARES
    seeded: bool = False
    elementwise: bool = False
    prepares: str = ""
    encodes: str = ""
    method: str = ""

    @property
    def needs_data(self) -> bool:
        """Whether it needs statistics from running the networks on data."""
        return bool(self.prepares)

    @property
    def weighed(self) -> bool:
        """Whether weights make a difference to it."""
        return self.weighing is not Weighing.NONE

    @property
    def needs_base(self) -> bool:
        """Whether it does not work without a base."""
        return self.base and not self.optional_base

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the parameters, by name.

        Raises:
            UsageError: a value that was given may not be used.
        """
        return values_of(self.parameters, given)

    def make(
        self, weights: Sequence[float], given: Mapping[str, Any], seed: int = 0,
        statistics: Sequence[Mapping[str, Any]] = (),
    ) -> Combine:  # fmt: skip
        """The function that combines tensors; `statistics` are those of one that needs data.

        Raises:
            UsageError: the weights or an option's value may not be used.
        """
        values = self.values(given)
        for parameter in self.parameters:
            if parameter.each:
                values[parameter.name] = parameter.spread(values[parameter.name], len(weights))
        shares = self.shares(weights)
        values |= {"weights": shares} if self.weighed else {}
        values |= {"seed": seed} if self.seeded and not self.prepares else {}
        values |= {"statistics": statistics} if self.prepares or self.encodes else {}
        combine: Combine = load(self.loads)(**values)
        return combine

    def equal(self, count: int) -> tuple[float, ...]:
        """The weights where none are given."""
        return (1.0 if self.weighing is Weighing.FACTORS else 1 / count,) * count

    def shares(self, weights: Sequence[float]) -> tuple[float, ...]:
        """The weights as they are used: over their sum, where they are shares.

        Raises:
            UsageError: one may not be used, or there are too many or too few.
        """
        finite = all(map(math.isfinite, weights))
        if self.weighing is Weighing.FACTORS:
            if not finite:
                raise UsageError("weights must be finite.", "for example --weights 1,-0.5.")
        elif not (finite and any(weights) and min(weights) >= 0):
            raise UsageError(
                "weights must be finite, not negative, and not all zero.", "for example --weights 2,1,1."
            )
        self._check_count(len(weights))
        total = 1.0 if self.weighing is Weighing.FACTORS else math.fsum(weights)
        return tuple(w / total for w in weights)

    def goals(self, weights: Sequence[float], *, has_base: bool = False) -> tuple[float, ...]:
        """The share of each input, base first, in the statistics that repair aims at.

        A network that is subtracted has none.
        """
        added = [max(w, 0.0) for w in self.shares(weights)]
        total = math.fsum(added)
        if has_base:
            return (0.0 if total else 1.0, *(w / (total or 1.0) for w in added))
        return tuple(w / total for w in added)

    def _check_count(self, count: int) -> None:
        if self.most is not None and count > self.most:
            hint = "merge more with --combine karcher or linear."
            raise UsageError(f"{self.name} combines {self.most} networks, not {count}.", hint)
        if count < self.least:
            more = "besides the base" if self.needs_base else "at least"
            problem = f"{self.name} combines {self.least} networks or more {more}, not {count}."
            raise UsageError(problem, "name another.")
