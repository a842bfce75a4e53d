"""A symmetry spec: which axes of which tensors carry which groups, as read from and written to TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from deepalign_cli.errors import SpecError, UsageError
from deepalign_cli.symmetry.axes import (
    GROUP_NAME,
    Atom,
    Axes,
    format_axes,
    labelled,
    parse_axes,
    without_marks,
)
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.kinds import KINDS, PERMUTATION, SCALE, SIGN, Kind, kind_that
from deepalign_cli.symmetry.phase import Phase, format_phase, parse_phase

FORMAT = 1
MAX_BYTES = 64 * 2**20
_ENTRIES = ("format", "basis", "axes", "kinds", "sizes", "pooled", "gains", "plus_one", "phases")
_HINT = "`deepalign inspect A --spec` prints a spec to start from; the guide is docs/specs.md."


class Activation(StrEnum):
    """The activation between hidden layers, which shapes cannot tell."""

    RELU = "relu"
    LEAKY_RELU = "leaky_relu"
    TANH = "tanh"
    SIN = "sin"
    GELU = "gelu"
    SILU = "silu"

    @property
    def kind(self) -> Kind:
        """The widest kind of symmetry that commutes with the activation (Godfrey et al. 2022)."""
        if self in (Activation.RELU, Activation.LEAKY_RELU):
            return SCALE
        return SIGN if self in (Activation.TANH, Activation.SIN) else PERMUTATION


@dataclass(frozen=True, repr=False)
class Spec:
    """The symmetry of an architecture, said once.

    `axes` maps a tensor's name to its axes; a tensor that is not named does not move. `sizes` is only
    needed where the shapes leave a group's size open. `pooled` names the groups that a max-pool may
    follow, which no sign may pass. `gains` names, for the gain of each norm on a group that turns, the
    tensors that undo it: vectors, as the norm's bias, which are multiplied by it, and the weights of the
    layers that read the norm, which are divided by it; `plus_one` are those gains to which the norm adds
    one. `phases` has, by the bias vector of sine units, what half turns of them do. `source` and `basis` say
    where the spec comes from and what it rests on, `assumptions` what it takes for granted and `stays` what
    might move and does not, a line for each thing; two specs that differ in no more than these three are
    equal.
    """

    axes: Mapping[str, Axes]
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    source: str = field(default="spec", compare=False)
    assumptions: tuple[str, ...] = field(default=(), compare=False)
    stays: tuple[str, ...] = field(default=(), compare=False)
    pooled: frozenset[str] = frozenset()
    basis: Basis = Basis.GIVEN
    gains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    phases: Mapping[str, Phase] = field(default_factory=dict)
    plus_one: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Spec:
        r"""The spec that TOML text says; `str(spec)` is such a text again.

        >>> spec = Spec.parse('[axes]\n"fc1.weight" = "k 784"\n"fc2.weight" = "10 k"')
        >>> spec.groups()
        ('k',)
        >>> Spec.parse(str(spec)) == spec
        True

        Raises:
            SpecError: the text is not TOML or not a spec.
        """
        return parse_spec(text)

    def __str__(self) -> str:
        return format_spec(self)

    def __repr__(self) -> str:
        return f"Spec({self.source}: {len(self.axes)} tensors, groups {', '.join(self.groups()) or 'none'})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the spec takes for granted, and what stays in place, a line for each thing."""
        return (*(f"assumption: {text}" for text in self.assumptions), *self.stays)

    def groups(self) -> tuple[str, ...]:
        """The groups' names in the order in which they first appear."""
        return tuple(dict.fromkeys(g for axes in self.axes.values() for axis in axes for g in axis.groups()))

    def allowed(self, kind: Kind | str) -> frozenset[str]:
        r"""The groups that may be of a kind, by their marks.

        A scale needs a `+` or `-` somewhere, a sign a `~`. Where the spec was not traced, its marks leave
        open which of the two they are, and a group without any `~` may have either.

        >>> spec = Spec.parse('[axes]\n"w" = "+k ~h"')
        >>> sorted(spec.allowed("sign")), sorted(spec.allowed("scale"))
        (['h', 'k'], ['k'])
        """
        kind = KINDS[kind] if isinstance(kind, str) else kind
        atoms = self._marked_atoms()
        if kind.mixes:
            return frozenset(self.groups())
        scaled = frozenset(atom.name for atom in atoms if atom.exponent)
        turned = self._tilded | (scaled if not self.basis.knows_marks else frozenset())
        groups = frozenset(self.groups())
        return groups & (scaled if kind.stretches else groups) & (turned if kind.turns else groups)

    def flips(self, atom: Atom) -> bool:
        """Whether a unit's sign meets the entries on this atom's axis: by `~`, or by any mark.

        By any mark in a group of which no axis has a `~`.
        """
        return "~" in atom.mark or (bool(atom.mark) and atom.name not in self._tilded)

    def with_kinds(self, *, scale: bool = False, sign: bool = False) -> Spec:
        """The spec whose groups also have scales or signs where they may; kinds already set stay."""
        stretched = self.allowed(SCALE) if scale else frozenset()
        turned = self.allowed(SIGN) if sign else frozenset()
        barred = turned & self.pooled if not self.basis.knows_marks else frozenset()
        if not stretched | turned:
            return self
        kinds = {g: kind_that(turns=g in turned - barred, stretches=g in stretched) for g in self.groups()}
        kinds = {group: kind for group, kind in kinds.items() if kind.multiplies}
        stays = (
            "signs of convolution channels stay as they are: a max-pool, which shapes do not show, "
            "would not pass them"
        )
        lines = (*self.stays, stays) if barred else self.stays
        return replace(self, kinds={**kinds, **self.kinds}, stays=lines)

    def with_activation(self, activation: Activation | None, kinds: Collection[Kind] = ()) -> Spec:
        """The spec with the scales or signs that `activation` allows, and with those of `kinds`.

        Raises:
            SpecError: the spec was traced, and the network allows no group what the activation would.
        """
        kind = activation.kind if activation else PERMUTATION
        if self.basis.knows_marks and not self.allowed(kind) and self.groups():
            raise SpecError(
                f"no group of the traced network has a {kind}, which --activation {activation} stands for.",
                "leave --activation out: a traced spec knows the activations; --kinds moves what it allows.",
            )
        asked = (kind, *kinds)
        return self.with_kinds(scale=any(k.stretches for k in asked), sign=any(k.turns for k in asked))

    @cached_property
    def _tilded(self) -> frozenset[str]:
        """The groups of which an axis has a `~`."""
        return frozenset(atom.name for atom in self._marked_atoms() if "~" in atom.mark)

    def _marked_atoms(self) -> frozenset[Atom]:
        atoms = (a for axes in self.axes.values() for axis in axes for a in axis.atoms())
        return frozenset(atom for atom in atoms if atom.mark)

    def with_axes(self, axes: Mapping[str, Axes]) -> Spec:
        r"""The spec of other axes: what is said of groups that are no longer there is left out.

        So are the gains of streams that no tensor has any more. Where one lacks only some of the tensors that
        undo it, it stays, so that this is found when the spec is bound to shapes.

        >>> spec = Spec.parse('[sizes]\nk = 2\nm = 3\n[axes]\na = "k"\nb = "m"')
        >>> dict(spec.with_axes({"a": spec.axes["a"]}).sizes)
        {'k': 2}
        """
        groups = {g for one in axes.values() for axis in one for g in axis.groups()}
        sizes = {g: n for g, n in self.sizes.items() if g in groups}
        kinds = {g: kind for g, kind in self.kinds.items() if g in groups}
        streams = {n for n, one in axes.items() if (self.mixing & groups) & {*map(str, one)}}
        gains = {n: others for n, others in self.gains.items() if streams & {*others}}
        phases = {n: phase for n, phase in self.phases.items() if axes.keys() >= {n, *phase.flips}}
        return replace(
            self, axes=axes, sizes=sizes, kinds=kinds, pooled=self.pooled & groups, gains=gains,
            phases=phases, plus_one=self.plus_one.intersection(gains),
        )  # fmt: skip

    def holding(self, sizes: Mapping[str, int]) -> Spec:
        """The spec in which the groups in `sizes`, which has their sizes, stay in place."""
        axes = {name: labelled(old, sizes) for name, old in self.axes.items()}
        return self.with_axes(
            {n: new for n, new in axes.items() if any(True for a in new for _ in a.groups())}
        )

    def renamed(self, name_of: Callable[[str], str]) -> Spec:
        """The same spec for tensors of other names."""
        axes = {name_of(name): axes for name, axes in self.axes.items()}
        gains = {name_of(n): tuple(map(name_of, others)) for n, others in self.gains.items()}
        phases = {
            name_of(n): replace(phase, flips=tuple(map(name_of, phase.flips)))
            for n, phase in self.phases.items()
        }
        plus_one = frozenset(map(name_of, self.plus_one))
        return replace(self, axes=axes, gains=gains, phases=phases, plus_one=plus_one)

    @property
    def mixing(self) -> frozenset[str]:
        """The groups that turn by orthogonal matrices."""
        return frozenset(group for group, kind in self.kinds.items() if kind.mixes)


def read_spec(path: str | Path) -> Spec:
    """Read a spec from a TOML file.

    Raises:
        UsageError: there is no such file.
        SpecError: the file is not TOML or not a spec.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"the spec '{path}' is larger than {MAX_BYTES >> 20} MB.", _HINT)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no spec file '{path}'.", _HINT) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the spec '{path}' cannot be read: {error}.", _HINT) from None
    return parse_spec(text, source=str(path))


def parse_spec(text: str, source: str = "spec") -> Spec:
    """Read a spec from TOML text.

    Raises:
        SpecError: the text is not TOML or not a spec.
    """
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"the spec '{source}' is not TOML: {error}.", _HINT) from None
    if unknown := sorted(set(table) - {*_ENTRIES}):
        message = f"the spec '{source}' has an unknown entry '{unknown[0]}'."
        raise SpecError(message, f"it may hold {', '.join(_ENTRIES)}.")
    if (number := table.get("format", FORMAT)) != FORMAT:
        raise SpecError(f"the spec '{source}' has format {number!r}; this version reads {FORMAT}.", _HINT)
    axes = {
        name: parse_axes(_text(line, name, source), name)
        for name, line in _table(table, "axes", source).items()
    }
    kinds = {name: _kind(value, name, source) for name, value in _table(table, "kinds", source).items()}
    sizes = {name: _size(value, name, source) for name, value in _table(table, "sizes", source).items()}
    pooled = _names(table.get("pooled", []), "'pooled'", source)
    gains = {n: _names(v, f"'{n}' of 'gains'", source) for n, v in _table(table, "gains", source).items()}
    phases = {n: parse_phase(v, n, source) for n, v in _table(table, "phases", source).items()}
    plus_one = frozenset(_names(table.get("plus_one", []), "'plus_one'", source))
    basis = _basis(table.get("basis", Basis.GIVEN), source)
    spec = Spec(
        axes, kinds, sizes, source=source, pooled=frozenset(pooled), basis=basis, gains=gains, phases=phases,
        plus_one=plus_one,
    )  # fmt: skip
    _check_names(spec)
    return spec


def format_spec(spec: Spec) -> str:
    """The TOML text of a spec; `parse_spec` reads it back."""
    lines = [f"# deepalign symmetry spec, from {spec.source}"]
    lines += [*(f"# assumption: {assumption}" for assumption in spec.assumptions), f"format = {FORMAT}"]
    if spec.basis is not Basis.GIVEN:
        lines.append(f"basis = {json.dumps(spec.basis)}")
    if spec.pooled:
        lines.append(f"pooled = {json.dumps(sorted(spec.pooled))}")
    if spec.plus_one:
        lines.append(f"plus_one = [{', '.join(map(_quoted, sorted(spec.plus_one)))}]")
    kinds = {group: kind.name for group, kind in spec.kinds.items()}
    for title, table in (("kinds", kinds), ("sizes", spec.sizes)):
        if table:
            lines += ["", f"[{title}]", *(f"{_quoted(k)} = {json.dumps(v)}" for k, v in table.items())]
    if spec.gains:
        lists = {name: ", ".join(map(_quoted, others)) for name, others in spec.gains.items()}
        lines += ["", "[gains]", *(f"{_quoted(name)} = [{others}]" for name, others in lists.items())]
    if spec.phases:
        lines += ["", "[phases]", *(f"{_quoted(n)} = {format_phase(one)}" for n, one in spec.phases.items())]
    lines += ["", "[axes]"]
    lines += [f"{_quoted(name)} = {json.dumps(format_axes(axes))}" for name, axes in spec.axes.items()]
    return "\n".join(lines) + "\n"


def plain(spec: Spec) -> Spec:
    """The spec without the marks that no kind uses: what `inspect` shows."""
    used = frozenset(g for g, kind in spec.kinds.items() if kind.multiplies)
    return replace(spec, axes={name: without_marks(axes, used) for name, axes in spec.axes.items()})


def _quoted(name: str) -> str:
    # JSON escapes are TOML escapes, but for DEL, which TOML wants escaped and JSON does not.
    return json.dumps(name).replace("\x7f", "\\u007f")


def _table(table: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise SpecError(f"'{key}' in the spec '{source}' is not a table.", _HINT)
    return value


def _names(value: object, what: str, source: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise SpecError(f"{what} in the spec '{source}' is not a list of names.", _HINT)
    return tuple(value)


def _text(value: object, name: str, source: str) -> str:
    if not isinstance(value, str):
        message = f"the axes of '{name}' in the spec '{source}' are not a string."
        raise SpecError(message, 'quote both: "fc.weight" = "10 h".')
    return value


def _kind(value: object, name: str, source: str) -> Kind:
    if not isinstance(value, str) or value not in KINDS:
        message = f"the kind of '{name}' in the spec '{source}' is {value!r}."
        raise SpecError(message, f"a kind is one of {', '.join(KINDS)}.")
    return KINDS[value]


def _size(value: object, name: str, source: str) -> int:
    if type(value) is not int or value < 1:
        raise SpecError(f"the size of '{name}' in the spec '{source}' is not a positive integer.", _HINT)
    return value


def _basis(value: object, source: str) -> Basis:
    if not isinstance(value, str) or value not in list(Basis):
        message = f"the basis of the spec '{source}' is {value!r}."
        raise SpecError(message, f"it is one of {', '.join(Basis)}, or left out.")
    return Basis(value)


def _check_names(spec: Spec) -> None:
    known = set(spec.groups())
    for name in sorted(spec.plus_one.difference(spec.gains)):
        raise SpecError(f"'{name}' in 'plus_one' of the spec '{spec.source}' is not in [gains].", _HINT)
    for name in (*spec.kinds, *spec.sizes, *spec.pooled):
        if name not in known or not GROUP_NAME.fullmatch(name):
            raise SpecError(f"no axis of the spec '{spec.source}' carries the group '{name}'.", _HINT)
    for name, kind in spec.kinds.items():
        if name not in spec.allowed(kind):
            raise SpecError(
                f"the group '{name}' is of kind {kind} but no axis of it has {_needed(spec, name, kind)}.",
                f"write +{name} where a tensor is multiplied by the unit's scale, -{name} where it is "
                f"divided, ~{name} where it flips with the unit's sign, ~+{name} or ~-{name} for both.",
            )


def _needed(spec: Spec, group: str, kind: Kind) -> str:
    if kind.stretches and group not in spec.allowed(SCALE):
        return "a + or - mark"
    return "a ~ mark" if spec.basis.knows_marks else "a ~, + or - mark"
