"""Which biases are phases of sines: in sin(c (W x + b)), adding pi / c to an entry of b flips a unit.

Proposed by what stands between a bias and a sine, and proved by the network: in float64 random half
turns must not change what it computes. Without its phase a sine's sign is of little use, and with it of great
use, so that such units have both without being asked.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from torch.fx import Node

from deepalign_cli.symmetry.kinds import SIGN
from deepalign_cli.symmetry.phase import Phase
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.check import Trial
from deepalign_cli.tracing.program import Program, Role

_CHECKS = "_assert_tensor_metadata"
_BIAS = {"linear": (1, 2), "addmm": (2, 0), "convolution": (1, 2)}  # where the weight and the bias stand


def with_phases(program: Program, spec: Spec, trial: Trial) -> Spec:
    """The spec with the phases that are proposed, whose units then have signs, or none of them."""
    phases = proposed_phases(program, spec)
    kinds = {group: SIGN for bias in phases for group in spec.axes[bias][0].groups()}
    proposed = replace(spec, phases=phases, kinds={**spec.kinds, **kinds})
    if not phases or trial.of(Symmetry(proposed, trial.shapes))[1]:
        return spec
    return proposed


def proposed_phases(program: Program, spec: Spec) -> dict[str, Phase]:
    """The phases that stand where only a sine sees them, by the name of the bias."""
    found: dict[str, tuple[str, Phase]] = {}
    for node in program.nodes:
        layer = _layer(program, node) if _name(node) == "sin" else None
        if layer is None:
            continue
        weight, bias, factor = layer
        axes = [*map(str, spec.axes.get(bias, ()))]
        group = axes[0].removeprefix("~") if len(axes) == 1 else ""
        if group in spec.allowed("sign"):
            readers = tuple(n for n in spec.axes if n not in (weight, bias) and _flips(spec, n, group))
            found[bias] = group, Phase(math.pi / abs(factor), readers)
    counts = Counter(group for group, _ in found.values())
    return {bias: phase for bias, (group, phase) in found.items() if counts[group] == 1 and phase.flips}


def _flips(spec: Spec, name: str, group: str) -> bool:
    """Whether a tensor flips with the group: an amplitude may, in the place of the layer that reads it."""
    atoms = [atom for axis in spec.axes[name] for atom in axis.atoms() if atom.name == group]
    return bool(atoms) and all(map(spec.flips, atoms))


def _layer(program: Program, sine: Node) -> tuple[str, str, float] | None:
    """The weight and the bias of the layer whose outputs a sine reads, and what they are multiplied by.

    None where anything else sees them, too.
    """
    factor, node = 1.0, sine.args[0]
    while isinstance(node, Node) and _is_seen_once(node):
        name = _name(node)
        if name in _BIAS:
            weight, bias = (node.args[i] if i < len(node.args) else None for i in _BIAS[name])
            names = _state(program, weight), _state(program, bias)
            return (*names, factor) if all(names) and factor else None
        step = _multiplied(program, node)
        if step is None:
            return None
        node, number = step
        factor *= number
    return None


def _multiplied(program: Program, node: Node) -> tuple[Node, float] | None:
    """What a node multiplies by a number that no checkpoint holds, and the number; None where it does not."""
    name, numbers = _name(node), [_number(program, arg) for arg in node.args[:2]]
    values = [arg for arg, number in zip(node.args, numbers, strict=False) if number is None]
    known = [number for number in numbers if number is not None]
    if len(values) != 1 or not isinstance(values[0], Node):
        return None
    if name == "neg":
        return values[0], -1.0
    if name == "mul" and known:
        return values[0], known[0]
    return (values[0], 1 / known[0]) if name == "div" and known and numbers[0] is None and known[0] else None


def _number(program: Program, arg: object) -> float | None:
    """A number in the program: written there, or a constant of one entry."""
    if isinstance(arg, int | float):
        return float(arg)
    if not isinstance(arg, Node) or arg.op != "placeholder":
        return None
    source = program.source(arg)
    is_one = source.role is Role.CONSTANT and source.tensor is not None and source.tensor.numel() == 1
    return float(source.tensor) if is_one and source.tensor is not None else None


def _state(program: Program, node: object) -> str:
    """The name of a state that only one operation reads; empty where it is none."""
    if not isinstance(node, Node):
        return ""
    if _name(node) in ("permute", "t", "transpose"):
        return _state(program, node.args[0])
    is_state = node.op == "placeholder" and program.source(node).role is Role.STATE
    return program.source(node).name if is_state and _is_seen_once(node) else ""


def _is_seen_once(node: Node) -> bool:
    return sum(_name(user) != _CHECKS for user in node.users) == 1


def _name(node: Node) -> str:
    return str(getattr(node.target, "_opname", node.op))
