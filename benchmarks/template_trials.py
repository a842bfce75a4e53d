"""Traces of the templates' networks, and the check that a template holds on networks of other sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from template_nets import Case, Net, Size
from template_turns import Head, both_turned, untied_head
from torch import nn

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.models.hugging_face import ignored_names, renamed
from deepalign_cli.models.module import run_module
from deepalign_cli.models.subject import Subject, bare_subject, subject_of
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.symmetry.axes import Axes
from deepalign_cli.symmetry.known_models import match
from deepalign_cli.symmetry.meet import differing_marks, meet, unmarked
from deepalign_cli.symmetry.resolve import shapes_of
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.check import Trial, check
from deepalign_cli.tracing.pipeline import trace

Shapes = dict[str, tuple[int, ...]]
_OTHERS = (
    Size(hidden=32, heads=4, kv=4, ffn=24, vocab=61, places=25, layers=1, types=2, labels=3, patch=8),
    Size(hidden=48, heads=4, kv=1, ffn=52, vocab=71, places=29, layers=4, types=4, labels=2, patch=5),
)


@dataclass(frozen=True)
class Saved:
    """A network in a folder of its own, as its package saves it, and what it is traced by."""

    module: nn.Module
    path: Path
    checkpoint: Checkpoint
    subject: Subject
    config: dict[str, Any]


@dataclass(frozen=True)
class TracedClass:
    """What all cases of a class allow, by stored names, and what any of them may lack."""

    spec: Spec
    shapes: Shapes
    optional: frozenset[str]
    config: dict[str, Any]
    also: tuple[str, ...]
    turned: Spec | None = None
    untied: Spec | None = None
    head: Head | None = None


def saved(net: Net, case: Case, size: Size, folder: Path) -> Saved:
    """A fresh network, saved and opened again."""
    module = net.build(case, size)
    if not case.config:
        save_file(module.state_dict(), folder / "model.safetensors")
        return Saved(module, folder / "model.safetensors", open_network(folder / "model.safetensors"),
                     bare_subject(module, None), {})  # fmt: skip
    module.save_pretrained(folder)
    checkpoint = open_network(folder)
    run = run_module(module, shapes_of(checkpoint), "", ignored_names(module), renamed(module))
    subject = subject_of(run, checkpoint)
    return Saved(module, folder, checkpoint, subject, module.config.to_dict())


def _stored(one: Saved) -> dict[str, str]:
    """The name in its file of every tensor of a network."""
    infos, names = one.checkpoint.infos, one.subject.names
    return {names[n]: info.stored_name for n, info in infos.items() if n in names}


def _traced(one: Saved, *, turns: bool) -> tuple[Spec, Spec | None, Shapes]:
    """The trace of a network in its file's own names, what turns if that is asked for, and the shapes."""
    result = trace(one.subject.module, one.subject.example, checked=turns, turns=turns)
    if result.unknown:
        raise SystemExit(f"operations without a rule: {result.unknown}")
    stored, spec, turned = _stored(one), result.spec, result.turned
    axes = {stored[name]: axes for name, axes in spec.axes.items() if name in stored}
    shapes = {info.stored_name: info.shape for info in one.checkpoint.infos.values() if info.is_float}
    if turned:
        turned = turned.renamed(lambda name: stored.get(name, name))
        turned = replace(turned, axes={n: axes for n, axes in turned.axes.items() if n in shapes})
    return replace(spec, axes=axes), turned, shapes


def traced_class(net: Net, cases: Sequence[Case], size: Size) -> TracedClass:
    """The meet of a class's traces; a tensor that some lack is optional."""
    spec: Spec | None = None
    shapes: Shapes = {}
    names: list[set[str]] = []
    config: dict[str, Any] = {}
    turned: dict[bool, Spec | None] = {}
    head: Head | None = None
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            one = saved(net, case, size, Path(folder))
            found, turning, own = _traced(one, turns=net.turns)
            untied = untied_head(one.module, case, _stored(one)) if net.turns else None
        config, head = config or one.config, head or untied
        before = turned.setdefault(untied is not None, turning)
        turned[untied is not None] = before and turning and both_turned(before, turning)
        names.append(set(own))
        spec = found if spec is None else _both(spec, shapes, found, own, case)
        shapes |= own
    assert spec is not None
    also = tuple(dict.fromkeys(case.cls for case in cases if case.cls != cases[0].cls))
    optional = frozenset(set(shapes) - set.intersection(*names))
    return TracedClass(spec, shapes, optional, config, also, turned.get(False), turned.get(True), head)


def _both(spec: Spec, shapes: Shapes, other: Spec, own: Shapes, case: Case) -> Spec:
    """The meet on the tensors that both have; the others' lines are kept, with the same groups held."""
    shared = shapes.keys() & own.keys()
    parts = [replace(s, axes={n: a for n, a in s.axes.items() if n in shared}) for s in (spec, other)]
    both = meet(*parts, {n: own[n] for n in shared})
    if both is None:
        raise SystemExit(f"{case.cls} with {dict(case.settings)} moves otherwise")
    sizes = {**other.sizes, **spec.sizes}
    lost = {g: sizes[g] for p in parts for g in {*p.groups()} - {*both.groups()}}
    parts = [part.holding(lost) for part in parts]
    scales, signs = differing_marks(parts[0].axes, both.axes)
    scales2, signs2 = differing_marks(parts[1].axes, both.axes)
    union = {**{n: a for s in (other, spec) for n, a in s.axes.items() if n not in shared}, **both.axes}
    whole = replace(spec, axes=union, sizes=sizes)
    whole = unmarked(whole, scales | scales2, signs | signs2)
    return whole.holding(lost)


def failures(net: Net) -> tuple[list[str], list[str]]:
    """Rows on every class at other sizes, and what is wrong."""
    rows, faults = [], []
    for cases in net.classes.values():
        for number, size in enumerate(_OTHERS):
            for case in cases if number == 0 else cases[:1]:
                with tempfile.TemporaryDirectory() as folder:
                    one = saved(net, case, size, Path(folder))
                    row, bad = _tried(net, one, size)
                label = f"{case.cls} {dict(case.settings) or ''} {size.layers} layers"
                rows.append(f"{label}: {row}")
                faults += [f"{label}: {fault}" for fault in bad]
    return rows, faults


def _with_ties(module: nn.Module, axes: dict[str, Axes]) -> dict[str, Axes]:
    """The axes of tied tensors under each of their names: a file has but one."""
    state = module.state_dict(keep_vars=True)
    known = {id(state[name]): one for name, one in axes.items()}
    return {name: known[id(w)] for name, w in state.items() if id(w) in known}


def _turned_trial(one: Saved, checkpoint: Checkpoint, heads: int | None) -> float:
    """By how much random rotations of all that turns by the template change the outputs."""
    spec = match(checkpoint, heads, turns=True)
    if spec is None:
        return float("inf")
    names = one.subject.names
    spec = spec.renamed(lambda name: names.get(name, name))
    trial = Trial(one.subject.module, one.subject.example)
    spec = replace(spec, axes=_with_ties(one.subject.module, dict(spec.axes)))
    residual, failed = trial.of(Symmetry(spec, trial.shapes))
    return float("inf") if failed else residual


def _tried(net: Net, one: Saved, size: Size) -> tuple[str, list[str]]:
    """A network through its template: in its folder, as a bare file, and with its heads said."""
    bare = one.path if one.path.is_file() else next(one.path.glob("*.safetensors"))
    shares, faults = [], []
    number = size.heads if len(net.heads) == 1 else None
    for how, path, heads in (
        ("folder", one.path, None), ("file", bare, None), ("file with heads", bare, number),
    ):  # fmt: skip
        checkpoint = open_network(path)
        try:
            spec = match(checkpoint, heads)
        except Exception as error:
            faults.append(f"{how}: {error}")
            continue
        if spec is None:
            faults.append(f"{how}: no template")
            continue
        names = one.subject.names
        axes = _with_ties(one.subject.module, {names[n]: a for n, a in spec.axes.items()})
        result = check(replace(spec, axes=axes), one.subject.module, one.subject.example)
        if result.failed or not result.residual <= 1e-10:
            faults.append(f"{how}: {result.residual:.1e} {dict(result.failed)}")
        if net.turns and how != "file":
            turned = _turned_trial(one, checkpoint, heads)
            faults += [f"{how}, turned: {turned:.1e}"] if not turned <= 1e-10 else []
        moved = sum(checkpoint.infos[n].numel for n in spec.axes)
        total = sum(i.numel for i in checkpoint.infos.values() if i.is_float)
        shares.append(f"{how} {len(spec.axes)}/{len(checkpoint)} tensors, {100 * moved / total:.0f} %")
    return "; ".join(shares), faults
