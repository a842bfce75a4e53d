"""Where the gain of a norm goes: which bias is added behind it, and which layers read it.

A gain can be taken into the layers behind its norm where nothing else sees what it multiplies. So every use
is followed through operations that leave channels alone, up to products with a weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.fx import Node

from deepalign_cli.tracing.program import Program, Role

# Operations that leave the channels of what they read where they are.
_PASSES_TEXT = (
    "view reshape _unsafe_view expand permute transpose t unsqueeze squeeze slice select clone alias detach"
    " _to_copy index mean sum contiguous"
)
_PASSES = frozenset(_PASSES_TEXT.split())
_PRODUCTS = frozenset({"linear", "addmm", "mm", "matmul", "bmm", "convolution"})
_CASTS = frozenset({"_to_copy", "clone", "alias", "detach"})
_CHECKS = "_assert_tensor_metadata"


@dataclass(frozen=True)
class Readers:
    """The tensors that undo each gain; and for each that cannot be taken in, what sees it besides.

    `centring` are the gains of norms that subtract the mean, `plus_one` those to which the norm adds one.
    """

    undone_by: Mapping[str, tuple[str, ...]]
    seen_by: Mapping[str, str]
    centring: frozenset[str]
    plus_one: frozenset[str] = frozenset()


def norm_readers(program: Program, names: Mapping[str, tuple[str, ...]]) -> Readers:
    """The readers of the norms whose gains are among `names`: a tensor's name, and all it is tied to."""
    placed = {program.source(n).name: n for n in program.nodes if _is_state(program, n)}
    undone: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    reads: Counter[str] = Counter()
    centring, plus_one = set(), set()
    for gain in sorted(names.keys() & placed.keys()):
        followed = _Followed(program)
        is_undone = followed.follow(placed[gain]) and len(followed.added) == 1
        centring |= {gain} if followed.centres else set()
        plus_one |= {gain} if followed.added == {1} else set()
        if is_undone:
            undone[gain] = followed.result
            reads.update(followed.weights)
        elif followed.norms:
            seen[gain] = followed.seen or "one is added to it in some norms only"
    for gain, name in [(gain, name) for gain, others in undone.items() for name in others]:
        uses = _products(placed[name])
        owners = sum(name in others for others in undone.values())
        if uses is None or owners > 1 or (uses and uses != reads[name]):
            seen[gain] = f"'{name}' is used elsewhere, too"
    tied = {
        gain: tuple(same for name in others for same in names.get(name, (name,)))
        for gain, others in undone.items()
        if gain not in seen
    }
    return Readers(tied, seen, frozenset(centring), frozenset(plus_one).intersection(tied))


def _is_state(program: Program, node: Node) -> bool:
    return node.op == "placeholder" and program.source(node).role is Role.STATE


class _Followed:
    """What a gain's product is followed to."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.norms, self.seen, self.centres = 0, "", False
        self.added: set[int] = set()  # what norms add to the gain before they multiply by it
        self.biases: list[str] = []
        self.weights: list[str] = []

    @property
    def result(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.biases, *self.weights)))

    def follow(self, gain: Node, added: int = 0) -> bool:
        """Whether all uses of the gain, to which something has been `added`, end in products with weights."""
        for user in _users(gain):
            name = _name(user)
            if name in _CASTS or (not added and _adds_one(user)):
                if not self.follow(user, added + (name not in _CASTS)):
                    return False
                continue
            if _has_gain(user, gain):
                self.centres = True
                self._bias(user.args[3] if len(user.args) > 3 else None)
            elif name != "mul":
                self.seen = f"{name} reads the gain"
                return False
            self.norms += 1
            self.added.add(added)
            if not self._reads(user):
                return False
        return bool(self.weights)

    def _reads(self, node: Node) -> bool:
        for user in _users(node):
            name = _name(user)
            if name in _PRODUCTS and (weight := self._weight(user, node)):
                self.weights.append(weight)
            elif name == "add" and (bias := self._vector(user, node)):
                self.biases.append(bias)
                if not self._reads(user):
                    return False
            elif name not in _PASSES or not self._reads(user):
                self.seen = self.seen or f"{name} sees what it multiplies"
                return False
        return True

    def _weight(self, product: Node, read: Node) -> str:
        """The name of the weight that a product has on its other side; empty if that is none."""
        first = 1 if _name(product) == "addmm" else 0
        x, w = product.args[first], product.args[first + 1]
        return self._state(w) if x is read and isinstance(w, Node) else ""

    def _vector(self, total: Node, read: Node) -> str:
        other = next((a for a in total.args[:2] if a is not read), None)
        name = self._state(other) if isinstance(other, Node) else ""
        return name if name and isinstance(other, Node) and other.meta["val"].ndim == 1 else ""

    def _bias(self, bias: object) -> None:
        if isinstance(bias, Node):
            self.biases.append(self._state(bias))

    def _state(self, node: Node) -> str:
        while node.op == "call_function" and _name(node) in _PASSES and isinstance(node.args[0], Node):
            node = node.args[0]
        return self._program.source(node).name if _is_state(self._program, node) else ""


def _has_gain(norm: Node, gain: Node) -> bool:
    """Whether a node is a LayerNorm with this gain."""
    return _name(norm) == "layer_norm" and len(norm.args) > 2 and norm.args[2] is gain


def _adds_one(total: Node) -> bool:
    """Whether a node adds the number one to what it reads."""
    numbers = [a for a in total.args if isinstance(a, float | int)]
    return _name(total) == "add" and not total.kwargs and numbers == [1]


def _users(node: Node) -> Iterator[Node]:
    return (user for user in node.users if _name(user) != _CHECKS)


def _products(node: Node) -> int | None:
    """How many products read a weight: 0 for a vector that is added, None where anything else reads it."""
    count = 0
    for user in _users(node):
        name = _name(user)
        if name in _PRODUCTS:
            count += 1
        elif name in _PASSES:
            inner = _products(user)
            if inner is None:
                return None
            count += inner
        elif name not in ("layer_norm", "add"):
            return None
    return count


def _name(node: Node) -> str:
    return str(getattr(node.target, "_opname", node.op))
