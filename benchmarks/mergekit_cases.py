"""What mergekit_parity.py merges: networks, and every method as both programs are asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# How far the networks are from the base, as the deviation of what is added to weights of deviation 0.02; None
# for networks that have nothing in common with it. "rounded" and "stable" are "tuned" rounded to bfloat16, so
# that many numbers are equal.
SETS: Mapping[str, float | None] = {
    "apart": None, "tuned": 5e-3, "gentle": 2e-4, "rounded": 5e-3, "stable": 5e-3,
}  # fmt: skip
NETWORKS = ("b", "c", "d")


@dataclass(frozen=True)
class Case:
    """One merge of `networks`; `each` are parameters of mergekit by input, `shared` those of all."""

    name: str
    method: str
    options: Sequence[str]
    networks: Sequence[str] = NETWORKS
    base: bool = True
    each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    base_first: bool = False
    dtype: str = "float32"

    def config(self, folder: str) -> dict[str, Any]:
        """What mergekit reads; the networks lie in a folder."""
        models = [
            {
                "model": f"{folder}/{network}",
                "parameters": {key: values[i] for key, values in self.each.items()},
            }
            for i, network in enumerate(self.networks)
        ]
        base = f"{folder}/{self.networks[0] if self.base_first else 'base'}"
        whole = {"merge_method": self.method, "models": models, "dtype": self.dtype, "out_dtype": "float32"}
        return (
            whole
            | {"parameters": dict(self.shared)}
            | ({"base_model": base} if self.base or self.base_first else {})
        )

    def command(self, folder: str, out: str) -> list[str]:
        """What deepalign is called with."""
        inputs = [f"{folder}/{network}" for network in self.networks]
        base = ["--base", f"{folder}/base"] if self.base else []
        return ["merge", *inputs, *base, "-m", "none", *self.options, "-o", out, "--force", "-q"]


W, D = (1.0, 0.5, 0.3), (0.5, 0.3, 0.8)
WEIGHTS, DENSITY = ("--weights", "1,0.5,0.3"), ("--density", "0.5,0.3,0.8")
EACH = {"weight": W, "density": D}


def _case(name: str, options: str = "", **how: Any) -> Case:
    method = name.split()[0].strip(",")
    return Case(name, how.pop("method", method), ["--combine", method, *options.split()], **how)


def _by_layer(attention: Sequence[float], mlp: Sequence[float], rest: float) -> list[dict[str, Any]]:
    return [{"filter": "self_attn", "value": attention}, {"filter": "mlp", "value": mlp}, {"value": rest}]


_W, _D = " ".join(WEIGHTS), " ".join(DENSITY)
EXACT = (
    _case("linear", _W, base=False, each={"weight": W}),
    _case("slerp", "--alpha 0.3", networks="bc", base=False, shared={"t": 0.3}, base_first=True),
    _case("nuslerp", "--weights 1,0.5", networks="bc", base=False, each={"weight": (1.0, 0.5)}),
    _case("nuslerp with base", "--weights 1,0.5", networks="bc", each={"weight": (1.0, 0.5)}),
    _case("karcher", base=False),
    _case("karcher, mergekit in float64", base=False, dtype="float64"),
    _case("karcher of two", networks="bc", base=False),
    _case("task_arithmetic", f"{_W} --lambda 0.7", each={"weight": W}, shared={"lambda": 0.7}),
    _case("task_arithmetic below 0", "--weights 1,-0.5,0.3", each={"weight": (1.0, -0.5, 0.3)}),
    _case("ties", f"{_W} {_D} --lambda 0.7", each=EACH, shared={"lambda": 0.7}),
    _case("ties at density 1", _W, each={"weight": W}),
    _case("breadcrumbs", f"{_W} {_D} --gamma 0.1,0.02,0.3", each=EACH | {"gamma": (0.1, 0.02, 0.3)}),
    _case("breadcrumbs_ties", f"{_W} {_D} --gamma 0.05 --lambda 0.7",
          each=EACH, shared={"gamma": 0.05, "lambda": 0.7}),
    _case("dare_linear at density 1", _W, each={"weight": W}),
    _case("dare_ties at density 1", _W, each={"weight": W}),
    _case("della at density 1", _W, each={"weight": W}),
    _case("della_linear at density 1", _W, each={"weight": W}),
    _case("sce", "--density 0.4", shared={"select_topk": 0.4}),
    _case("sce at density 1"),
    _case("model_stock"),
    _case("model_stock of two", networks="bc"),
    _case("slerp by layer", "--alpha 0.3 --weights-for self_attn=0,0.2,0.5,1 --weights-for mlp=1,0.5",
          networks="bc", base=False, base_first=True,
          shared={"t": _by_layer([0, 0.2, 0.5, 1], [1, 0.5], 0.3)}),
    _case("task_arithmetic by layer",
          f"{_W} --weights-for self_attn=1/0.2,0.4/0 --weights-for mlp=1,-0.5/0,1,0/0.3",
          each={"weight": (_by_layer([1, 1], [1, -0.5], 1.0), _by_layer([0.2, 0.4], [0, 1, 0], 0.5),
                           _by_layer([0, 0], [0.3, 0.3], 0.3))}),
)  # fmt: skip
RANDOM = (
    _case("dare_linear", "--density 0.3", networks="b", each={"weight": (1.0,), "density": (0.3,)}),
    _case("dare_ties", f"{_W} {_D}", each=EACH),
    _case("della", f"{_W} --density 0.5 --epsilon 0.2", each={"weight": W},
          shared={"density": 0.5, "epsilon": 0.2}),
    _case("della_linear", "--density 0.4 --epsilon 0.3", networks="b", each={"weight": (1.0,)},
          shared={"density": 0.4, "epsilon": 0.3}),
)  # fmt: skip
