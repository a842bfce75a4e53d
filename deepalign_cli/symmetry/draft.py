"""Writing a spec module by module, as every family does."""

from __future__ import annotations

from dataclasses import dataclass, field

from deepalign_cli.errors import AmbiguousError, SpecError
from deepalign_cli.symmetry.axes import parse_axes
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.layout import Module
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import STATISTICS

HOW_A_SPEC_HELPS = (
    "write a spec: `deepalign inspect A --spec --blank > a.toml` writes a skeleton; "
    "put group names on the axes that move together, and pass `--spec a.toml`."
)


def misfit(message: str) -> SpecError:
    """The error for names and shapes that contradict one another."""
    return SpecError(message, HOW_A_SPEC_HELPS)


def ambiguous(message: str) -> AmbiguousError:
    """The error for names and shapes that can be read in two ways."""
    return AmbiguousError(message, HOW_A_SPEC_HELPS)


@dataclass
class Draft:
    """A spec in the making. Axis texts are in the grammar of `axes.py`."""

    source: str
    axes: dict[str, str] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    pooled: set[str] = field(default_factory=set)
    grouped: set[str] = field(default_factory=set)

    def linear(
        self, module: Module, out: str, into: str, *, marked: bool = True, transposed: bool = False
    ) -> None:
        """A linear or convolution layer from axis `into` to axis `out`.

        `marked` says that the unit's scale is applied here, not in a norm after it.
        """
        out, into = with_mark(out, "+") if marked else out, with_mark(into, "-")
        ends = [into, out] if transposed else [out, into]
        self.axes[module.names["weight"]] = " ".join([*ends, *map(str, module.shapes["weight"][2:])])
        if "bias" in module.names:
            self.axes[module.names["bias"]] = out

    def norm(self, module: Module, axis: str, *, marked: bool = True) -> None:
        """A normalisation layer over `axis`: gain and shift carry the scale, statistics only move."""
        for role, name in module.names.items():
            if len(module.shapes[role]) == 1:
                scaled = marked and role not in STATISTICS
                self.axes[name] = with_mark(axis, "+") if scaled else axis

    def only_permute(self, groups: set[str]) -> None:
        """Take the marks off `groups`, which no scale or sign may touch."""
        for name, text in self.axes.items():
            parts = [p[1:] if p[0] in "+-" and p[1:].split("*")[0] in groups else p for p in text.split()]
            self.axes[name] = " ".join(parts)

    def hold(self, group: str, size: int) -> None:
        """Label the units of a group, which then stay in place."""
        for name, text in self.axes.items():
            self.axes[name] = " ".join(str(size) if p.lstrip("+-") == group else p for p in text.split())
        self.pooled.discard(group)

    def spec(self) -> Spec:
        """The finished spec."""
        axes = {name: parse_axes(text, name) for name, text in self.axes.items()}
        assumptions, pooled = tuple(self.assumptions), frozenset(self.pooled)
        return Spec(axes, source=self.source, assumptions=assumptions, pooled=pooled, basis=Basis.READ)


def with_mark(axis: str, mark: str) -> str:
    """The axis with `mark` before its group; numbers, and groups that stay bare, are left alone."""
    first, star, rest = axis.partition("*")
    if first[0].isdigit() or "|" in axis or first[0] in "+-":
        return axis
    return f"{mark}{first}{star}{rest}"


def refuse_group_norm(module: Module) -> None:
    """A norm with a shift and without running statistics behind a convolution has two readings."""
    if not module.has_statistics and module.is_norm and "bias" in module.shapes:
        raise ambiguous(
            f"'{module.path}' may be a GroupNorm, whose channels move only within or as whole groups, "
            "or a norm over all channels, and nothing in the file says which."
        )
