"""Repairing a merged network before it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.operations.alignments import Found
from deepalign_cli.operations.run_settings import Subject
from deepalign_cli.repair import measure_parents, repair
from deepalign_cli.symmetry.spec import Activation

Combine = Callable[[str, Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Repaired:
    """The tensors that repair has changed; `on` names the examples, and `notes` say what was done."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    on: str = ""
    notes: tuple[str, ...] = ()


def repaired(
    subject: Subject, data: str, activation: Activation | None, opened: Sequence[Checkpoint],
    found: Sequence[Found], combine: Combine, shares: Sequence[float],
) -> Repaired:  # fmt: skip
    """Combine the inputs in memory, run them on training examples of `data`, and correct the result.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another.
    """
    from deepalign_cli.operations.testbed import open_subject  # models and data, where there are any

    running = open_subject(opened[0], replace(subject, data=data), activation, measured=False)
    moved = [one.symmetry.apply(one.element, b) for one, b in zip(found, opened[1:], strict=True)]
    networks = [dict(opened[0]), *moved]
    made = {name: combine(name, [network[name] for network in networks]) for name in networks[0]}
    batches = running.repaired_on
    parents = measure_parents(running.run, found[0].symmetry, networks, batches)
    correction = repair(running.run, parents, shares, made, batches)
    whole = correction.applied(made)
    changed = {name: whole[name] for name in correction.tensors}
    on = running.repair_data.name
    return Repaired(
        changed, on, (*running.says, *_said(correction.norms, correction.layers, on), *correction.notes)
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
