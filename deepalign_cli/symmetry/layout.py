"""What a family sees of a checkpoint: names, shapes, and what the user added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from deepalign_cli.symmetry.tensor_names import place_of


@dataclass(frozen=True)
class Module:
    """The tensors that share a path: `shapes` maps a role to a shape, `names` to the tensor's name."""

    path: str
    shapes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]
    strict: bool

    @property
    def rank(self) -> int:
        """The number of axes of the weight; 0 without one."""
        return len(self.shapes.get("weight", ()))

    @property
    def is_norm(self) -> bool:
        """Whether this is a normalisation layer or another per-unit parameter."""
        return self.rank == 1 or ("weight" not in self.shapes and "running_mean" in self.shapes)

    @property
    def size(self) -> int:
        """The number of units of a norm: the extent of its first tensor that has one."""
        return next((shape[0] for shape in self.shapes.values() if shape), 0)

    @property
    def has_statistics(self) -> bool:
        """Whether it keeps running statistics, as BatchNorm does."""
        return "running_mean" in self.shapes


@dataclass(frozen=True)
class Layout:
    """Names and shapes in the file's order, which means something where `ordered` (a state dict).

    `heads` is the number of attention heads where known.
    """

    shapes: Mapping[str, tuple[int, ...]]
    heads: int | None = None
    ordered: bool = False

    def modules(self) -> dict[str, Module]:
        """The tensors gathered by module, in the file's order."""
        names: dict[str, dict[str, str]] = {}
        strict: dict[str, bool] = {}
        for name in self.shapes:
            place = place_of(name)
            names.setdefault(place.path, {})[place.role] = name
            strict[place.path] = strict.get(place.path, True) and place.strict
        return {
            path: Module(path, {role: self.shapes[n] for role, n in roles.items()}, roles, strict[path])
            for path, roles in names.items()
        }

    def within(self, prefix: str) -> Layout:
        """The tensors below `prefix`, without it."""
        cut = len(prefix)
        below = {n[cut:]: s for n, s in self.shapes.items() if n.startswith(prefix)}
        return replace(self, shapes=below)

    def without(self, modules: Iterable[Module]) -> Layout:
        """The tensors but those of some modules."""
        left_out = {name for module in modules for name in module.names.values()}
        return replace(self, shapes={name: s for name, s in self.shapes.items() if name not in left_out})
