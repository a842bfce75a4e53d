"""Repairing a merged network before it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from deepalign_cli.operations.testbed import Testbed
from deepalign_cli.repair import measure_parents, reestimated, repair
from deepalign_cli.symmetry.symmetry import Symmetry, Weights


@dataclass(frozen=True)
class Repaired:
    """The tensors that repair has changed; `on` names the examples, which were run `size` at a time."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    on: str = ""
    size: int = 0
    notes: tuple[str, ...] = ()


def repaired(
    testbed: Testbed, symmetry: Symmetry, parents: Sequence[Weights], merged: Mapping[str, Tensor],
    shares: Sequence[float],
) -> Repaired:  # fmt: skip
    """Run a merged network and its parents, all in the same units, on training examples, and correct it.

    `shares` are those of the parents in the statistics that are aimed at.

    Raises:
        DeepalignError: the networks and the data do not fit one another.
    """
    batches = testbed.repaired_on
    statistics = measure_parents(testbed.run, symmetry, parents, batches)
    correction = repair(testbed.run, statistics, shares, merged, batches)
    network = correction.applied(merged)
    changed = {name: network[name] for name in correction.tensors}
    on = testbed.repair_data.name
    notes = (*testbed.says, *_said(correction.norms, correction.layers, on), *correction.notes)
    return Repaired(changed, on, testbed.repair_size, notes)


def reestimated_on(testbed: Testbed, network: Mapping[str, Tensor]) -> Repaired:
    """Run a network that lies between no parents on training examples, and re-estimate its BatchNorm.

    Raises:
        DeepalignError: the network and the data do not fit one another.
    """
    changed = reestimated(testbed.run, network, testbed.repaired_on)
    on, norms = testbed.repair_data.name, [name for name in changed if name.endswith("running_mean")]
    return Repaired(changed, on, testbed.repair_size, (*testbed.says, *_said(norms, (), on)))


def frozen_note(names: Sequence[str], how: str = "averaged") -> str:
    """The note on statistics that repair cannot re-estimate."""
    return (
        f"the network does not compute these statistics from batches (frozen norms), so they stay {how}: "
        f"{len(names)}, such as '{names[0]}'"
    )


def _said(norms: Sequence[str], layers: Sequence[str], on: str) -> list[str]:
    done = []
    if norms:
        layer = "layer" if len(norms) == 1 else "layers"
        done.append(f"the statistics of {len(norms)} BatchNorm {layer} were re-estimated")
    if layers:
        were = "layer was" if len(layers) == 1 else "layers were"
        done.append(f"{len(layers)} {were} brought to their parents' statistics")
    return [f"repaired on {on}: {' and '.join(done) or 'there was nothing to do'}"]
