# ruff: noqa: E501, N812
"""Random programs of the operations that have rules: many small ones in one module, one export for all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, WIDTH = 3, 6
_MOST = 2000  # entries of a value


class Branch(nn.Module):
    """One program: steps drawn by a seed; what no other step reads is read by the output."""

    def __init__(self, seed: int, steps: int) -> None:
        super().__init__()
        self.seed, self.steps = seed, steps
        self.layers = nn.ModuleDict()
        self.parameter_of = nn.ParameterDict()
        self.again: dict[str, str] = {}
        self.is_building = True
        self.plan: list[str | None] = []
        with torch.no_grad():
            self(torch.randn(BATCH, WIDTH))
        self.is_building = False

    def forward(self, x: Tensor) -> Tensor:
        rng = random.Random(self.seed)
        pool = self.first(x, rng)
        reads = [0] * len(pool)
        for number in range(self.steps):
            name = rng.choice(WEIGHTED)
            i = rng.randrange(max(0, len(pool) - 4), len(pool))
            j = rng.choice([k for k, v in enumerate(pool) if v.shape == pool[i].shape])
            step = Step(self, f"s{number}", pool[i], pool[j], random.Random(f"{self.seed}.{number}"))
            if not self.is_building and self.plan[number] is None:
                continue
            y = self.tried(name, step) if self.is_building else OPS[name](step)
            if y is not None:
                pool.append(y)
                reads.append(0)
                reads[i] += 1
                reads[j] += step.reads_other
        outs = [self.head(Step(self, f"h{k}", v, v, random.Random(f"{self.seed}.h{k}")))
                for k, v in enumerate(pool) if not reads[k] or rng.random() < 0.15]  # fmt: skip
        return torch.stack(outs).sum(0)

    def first(self, x: Tensor, rng: random.Random) -> list[Tensor]:
        kind = rng.choice("vvsi")
        step = Step(self, "in", x, x, rng)
        if kind == "v":
            return [
                step.layer(lambda: nn.Linear(WIDTH, 12), "a")(x),
                step.layer(lambda: nn.Linear(WIDTH, 12), "b")(x),
            ]
        outer = x[:, :, None] * x[:, None, :]
        if kind == "s":
            return [
                step.layer(lambda: nn.Linear(WIDTH, 8), "a")(outer),
                step.layer(lambda: nn.Linear(WIDTH, 8), "b")(outer),
            ]
        return [step.layer(lambda: nn.Conv2d(1, 8, 3), "a")(outer[:, None])]

    def tried(self, name: str, step: Step) -> Tensor | None:
        layers, parameters = set(self.layers), set(self.parameter_of)
        try:
            y = OPS[name](step)
            fits = (
                y is not step.a and y.ndim >= 2 and y.ndim <= 5 and len(y) == BATCH and 0 < y.numel() <= _MOST
                and y.dtype == torch.float64 and bool(y.isfinite().all()) and float(y.abs().max()) < 200
            )  # fmt: skip
        except (Unfit, RuntimeError, IndexError, ValueError, ZeroDivisionError):
            fits = False
        self.plan.append(name if fits else None)
        if fits:
            return y
        for key in set(self.layers) - layers:
            del self.layers[key]
        for key in set(self.parameter_of) - parameters:
            del self.parameter_of[key]
        return None

    def head(self, step: Step) -> Tensor:
        a = step.a
        kind = step.rng.choice("ffmns") if a.ndim > 2 else step.rng.choice("fffs")
        if kind == "m":
            a = a.mean(step.rng.choice(list(range(1, a.ndim))))
        elif kind == "n":
            a = a.amax(step.rng.choice(list(range(1, a.ndim))))
        elif kind == "s":
            a = step.parameter(a.shape[1:]) * a
            return a.flatten(1).sum(1, keepdim=True).expand(-1, 3)
        f = a.flatten(1)
        return step.layer(lambda: nn.Linear(f.shape[1], 3))(f)


class Forest(nn.Module):
    """Programs side by side: group names begin with the program's."""

    def __init__(self, seeds: range, steps: int = 9) -> None:
        super().__init__()
        torch.manual_seed(seeds.start)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        self.branches = nn.ModuleDict({f"p{seed}": Branch(seed, steps) for seed in seeds})
        torch.set_default_dtype(default)
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(branch(x) for branch in self.branches.values())

    def plans(self) -> Iterator[tuple[str, list[str]]]:
        for name, branch in self.branches.items():
            yield name, [op for op in branch.plan if op]


class Unfit(Exception):
    """The operation does not take a value of this shape."""


@dataclass
class Step:
    """What an operation draws from: a value, another of its shape, and a source of choices."""

    branch: Branch
    key: str
    a: Tensor
    other: Tensor
    rng: random.Random
    reads_other: bool = field(default=False)

    @property
    def b(self) -> Tensor:
        self.reads_other = True
        return self.other

    @property
    def n(self) -> int:
        return self.a.shape[-1]

    def layer(self, make: Callable[[], nn.Module], name: str = "") -> nn.Module:
        key = self.key + name
        if self.branch.is_building:
            self.branch.layers[key] = make()
        return self.branch.layers[key]

    def parameter(self, shape: tuple[int, ...] | torch.Size, name: str = "") -> Tensor:
        key = self.key + name
        if self.branch.is_building:
            self.branch.parameter_of[key] = nn.Parameter(torch.randn(shape))
        return self.branch.parameter_of[key]

    def earlier(self, fits: Callable[[nn.Linear], bool]) -> nn.Linear:
        """A linear layer of a step before, read once more."""
        if self.branch.is_building:
            layers = self.branch.layers.items()
            keys = [key for key, m in layers if isinstance(m, nn.Linear) and fits(m)]
            need(keys)
            self.branch.again[self.key] = self.rng.choice(keys)
        return self.branch.layers[self.branch.again[self.key]]

    def axis(self, least: int = 1) -> int:
        """An axis behind the first, at times from the end."""
        axes = [d for d in range(1, self.a.ndim) if self.a.shape[d] >= least]
        need(axes)
        d = self.rng.choice(axes)
        return d if self.rng.random() < 0.5 else d - self.a.ndim

    def factors(self, n: int) -> tuple[int, int]:
        pairs = [(p, n // p) for p in range(2, n) if n % p == 0]
        need(pairs)
        return self.rng.choice(pairs)

    def one(self, *options: object) -> object:
        return self.rng.choice(options)


def need(condition: object) -> None:
    if not condition:
        raise Unfit


OPS: dict[str, Callable[[Step], Tensor]] = {}
WEIGHTED: list[str] = []


def op(weight: int = 1):
    def put(function):
        OPS[function.__name__] = function
        WEIGHTED.extend([function.__name__] * weight)
        return function

    return put


_UNARY = {
    "relu": torch.relu, "tanh": torch.tanh, "sin": torch.sin, "cos": torch.cos, "sigmoid": torch.sigmoid,
    "gelu": F.gelu, "silu": F.silu, "abs_": torch.abs, "square": torch.square, "cube": lambda a: a**3,
    "leaky": lambda a: F.leaky_relu(a, 0.1), "neg": torch.neg, "plus": lambda a: a + 0.7,
    "rsub": lambda a: 1.5 - a, "times": lambda a: a * 1.7, "halved": lambda a: a / 2,
    "exp": lambda a: (0.3 * a).clamp(max=3).exp(), "sqrt": lambda a: a.abs().sqrt(),
    "hard": F.hardswish, "under": lambda a: 1 / (a.abs() + 1), "erf": torch.erf, "elu": F.elu,
    "softplus": F.softplus, "mish": F.mish, "relu6": F.relu6, "clamp": lambda a: a.clamp(-0.5, 0.5),
    "clamp_min": lambda a: a.clamp_min(0.1), "sign": torch.sign, "cast": lambda a: a.to(torch.int64).to(a.dtype),
    "truth": lambda a: (a > 0.1).to(a.dtype), "is_not": lambda a: (~(a > 0)).to(a.dtype), "floor": torch.floor,
    "long": lambda a: (3 * a).long().to(a.dtype), "power": lambda a: 1.3**a.clamp(-3, 3), "root": lambda a: (a.abs() + 0.1) ** 0.5,
    "inverse": lambda a: (a.abs() + 0.5) ** -1, "fourth": lambda a: a.clamp(-2, 2) ** 4, "clone": torch.clone,
    "threshold": lambda a: F.threshold(a, 0.2, 0.0), "softsign": F.softsign, "tanhshrink": F.tanhshrink,
    "logsigmoid": F.logsigmoid, "atan": torch.atan, "hardtanh": F.hardtanh, "masked": lambda a: a.masked_fill(a > 0.2, 0.0),
    "where_number": lambda a: torch.where(a > 0, a, 0.0), "where_zero": lambda a: torch.where(a > 0.3, 0.0, a),
    "relu_by_where": lambda a: torch.where(a > 0, a, torch.zeros_like(a)), "remainder": lambda a: a % 1.5,
    "logical": lambda a: ((a > 0) & (a < 1)).to(a.dtype), "or_": lambda a: ((a > 0.5) | (a < -0.5)).to(a.dtype),
    "nan_to_num": torch.nan_to_num, "dropout": lambda a: F.dropout(a, 0.5, training=False),
}  # fmt: skip
for _name, _function in _UNARY.items():
    OPS[_name] = lambda s, f=_function: f(s.a)
WEIGHTED.extend(_UNARY)
WEIGHTED.extend(["relu", "tanh", "gelu"])

_BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "max_": torch.maximum, "min_": torch.minimum,
    "where": lambda a, b: torch.where(a > 0, a, b), "where_only": lambda a, b: torch.where(b > 0, a, 0.3),
    "over": lambda a, b: a / (b.abs() + 1), "alpha": lambda a, b: torch.add(a, b, alpha=2),
    "rsub_alpha": lambda a, b: torch.rsub(a, b, alpha=3), "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "lerp_by": lambda a, b: torch.lerp(a, b, a.sigmoid()), "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
    "addcdiv": lambda a, b: torch.addcdiv(a, a, b.abs() + 1), "compare": lambda a, b: (a > b).to(a.dtype),
    "clamp_by": lambda a, b: torch.clamp(a, min=b), "clamp_both": lambda a, b: torch.clamp(a, -b.abs(), b.abs()),
    "copysign": torch.copysign, "hypot": torch.hypot, "atan2": torch.atan2, "fmax": torch.fmax,
    "pow_by": lambda a, b: (a.abs() + 0.5) ** b.clamp(-1, 2), "floor_divide": lambda a, b: torch.div(a, b.abs() + 1, rounding_mode="floor"),
    "bool_add": lambda a, b: ((a > 0) + (b > 0)).to(a.dtype), "bool_mul": lambda a, b: a * (b > 0),
    "squared_error": lambda a, b: (a - b) ** 2, "masked_by": lambda a, b: a.masked_fill(b > 0, -1.0),
    "gated": lambda a, b: F.silu(a) * b, "logaddexp": torch.logaddexp, "eq": lambda a, b: (a.round() == b.round()).to(a.dtype),
}  # fmt: skip
for _name, _two in _BINARY.items():
    OPS[_name] = lambda s, f=_two: f(s.a, s.b)
WEIGHTED.extend(_BINARY)
WEIGHTED.extend(["add"] * 4 + ["mul"] * 2)


@op(7)
def linear(s: Step) -> Tensor:
    return s.layer(lambda: nn.Linear(s.n, s.one(4, 6, 8, 12), bias=s.one(True, False)))(s.a)


@op(2)
def square_linear(s: Step) -> Tensor:
    return s.layer(lambda: nn.Linear(s.n, s.n))(s.a)


@op(2)
def tied(s: Step) -> Tensor:
    return s.earlier(lambda m: m.in_features == s.n)(s.a)


@op(2)
def tied_transposed(s: Step) -> Tensor:
    return F.linear(s.a, s.earlier(lambda m: m.out_features == s.n).weight.t())


@op()
def matrix(s: Step) -> Tensor:
    w = s.parameter((s.n, s.one(4, 6)))
    return s.a @ w


@op()
def matrix_of_batch(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    return s.a @ s.parameter((s.a.shape[1], s.n, 4))


@op()
def vector(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    return s.a @ s.parameter((s.n,))


@op(2)
def gain(s: Step) -> Tensor:
    return s.a * s.parameter((s.n,))


@op()
def gain_of_axis(s: Step) -> Tensor:
    d = s.axis() % s.a.ndim
    return s.a * s.parameter((s.a.shape[d], *[1] * (s.a.ndim - d - 1)))


@op()
def bias(s: Step) -> Tensor:
    return s.a + s.parameter((s.n,))


@op()
def bias_of_axis(s: Step) -> Tensor:
    d = s.axis() % s.a.ndim
    return s.a + s.parameter((s.a.shape[d], *[1] * (s.a.ndim - d - 1)))


@op()
def table(s: Step) -> Tensor:
    return s.a + s.parameter(s.a.shape[1:])


@op()
def table_sliced(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    return s.a + s.parameter((s.a.shape[1] + 2, s.n))[: s.a.shape[1]]


@op()
def scalar(s: Step) -> Tensor:
    return s.a * s.parameter((1,)) + s.parameter((), "b")


@op(2)
def layer_norm(s: Step) -> Tensor:
    return s.layer(lambda: nn.LayerNorm(s.n, elementwise_affine=s.one(True, True, False)))(s.a)


@op()
def layer_norm_wide(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    return s.layer(lambda: nn.LayerNorm(tuple(s.a.shape[-2:])))(s.a)


@op(2)
def rms_norm(s: Step) -> Tensor:
    if s.one(True, False):
        return s.layer(lambda: nn.RMSNorm(s.n))(s.a)
    return s.a * torch.rsqrt(s.a.pow(2).mean(-1, keepdim=True) + 1e-5) * s.parameter((s.n,))


@op(2)
def batch_norm(s: Step) -> Tensor:
    need(s.a.ndim <= 4)
    kind = nn.BatchNorm2d if s.a.ndim == 4 else nn.BatchNorm1d
    return s.layer(lambda: kind(s.a.shape[1], affine=s.one(True, True, False)))(s.a)


@op(2)
def group_norm(s: Step) -> Tensor:
    c = s.a.shape[1]
    g = s.one(1, 2, c, *[p for p in (3, 4) if c % p == 0])
    need(c % g == 0 and (s.a.ndim > 2 or c > g))
    return s.layer(lambda: nn.GroupNorm(g, c, affine=s.one(True, True, False)))(s.a)


@op()
def instance_norm(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    return s.layer(lambda: nn.InstanceNorm2d(s.a.shape[1], affine=True))(s.a)


@op()
def weight_norm(s: Step) -> Tensor:
    return s.layer(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(s.n, 6)))(s.a)


@op(3)
def conv(s: Step) -> Tensor:
    need(s.a.ndim in (3, 4))
    c, kind = s.a.shape[1], nn.Conv1d if s.a.ndim == 3 else nn.Conv2d
    k = s.one(1, 3)
    groups = s.one(1, 1, *[g for g in (2, 4) if c % g == 0], c)
    out = groups * s.one(1, 2) if groups > 1 else s.one(4, 8)
    return s.layer(
        lambda: kind(c, out, k, padding=k // 2, stride=s.one(1, 1, 2), groups=groups, bias=s.one(True, False))
    )(s.a)


@op()
def conv_transposed(s: Step) -> Tensor:
    need(s.a.ndim in (3, 4))
    c, kind = s.a.shape[1], nn.ConvTranspose1d if s.a.ndim == 3 else nn.ConvTranspose2d
    groups = s.one(1, 1, *[g for g in (2,) if c % g == 0], c)
    return s.layer(lambda: kind(c, 2 * groups if groups > 1 else 4, 2, stride=s.one(1, 2), groups=groups))(
        s.a
    )


@op(4)
def view(s: Step) -> Tensor:
    p, q = s.factors(s.n)
    return s.a.reshape(*s.a.shape[:-1], p, q)


@op()
def view_inner(s: Step) -> Tensor:
    d = s.axis() % s.a.ndim
    p, q = s.factors(s.a.shape[d])
    return s.a.unflatten(d, (p, q))


@op()
def view_anew(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    total = s.a[0].numel()
    p, q = s.factors(total)
    return s.a.reshape(-1, p, q)


@op(2)
def flat(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    return s.a.flatten(1)


@op(2)
def flat_two(s: Step) -> Tensor:
    need(s.a.ndim > 3)
    return s.a.flatten(*s.one((1, 2), (2, 3)))


@op(2)
def transposed(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    return s.a.transpose(1, s.axis() % s.a.ndim)


@op()
def permuted(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    dims = list(range(1, s.a.ndim))
    s.rng.shuffle(dims)
    return s.a.permute(0, *dims)


@op()
def unsqueezed(s: Step) -> Tensor:
    return s.a.unsqueeze(s.rng.randrange(1, s.a.ndim + 1) if s.one(True, False) else -1)


@op()
def squeezed(s: Step) -> Tensor:
    need(1 in s.a.shape[1:])
    return s.a.squeeze() if s.one(True, False) else s.a.squeeze(list(s.a.shape).index(1))


@op(2)
def cat(s: Step) -> Tensor:
    return torch.cat([s.a, s.b], s.axis())


@op()
def cat_mixed(s: Step) -> Tensor:
    return torch.cat([s.a, s.b, s.a], -1)


@op()
def stack(s: Step) -> Tensor:
    return torch.stack([s.a, s.b], s.rng.randrange(1, s.a.ndim + 1))


@op()
def chunk(s: Step) -> Tensor:
    d = s.axis(2)
    p, q = s.a.chunk(2, d)
    return p * q.sigmoid() if p.shape == q.shape and s.one(True, False) else s.one(p, q)


@op()
def split(s: Step) -> Tensor:
    d = s.axis(4)
    n = s.a.shape[d]
    k = s.rng.randrange(1, n - 1)
    parts = s.a.split([k, n - k], d)
    return torch.cat(parts[::-1], d) if s.one(True, False) else s.rng.choice(parts)


@op()
def glu(s: Step) -> Tensor:
    d = s.axis(2)
    need(s.a.shape[d] % 2 == 0)
    return F.glu(s.a, d)


@op()
def select(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    d = s.axis()
    return s.a.select(d, s.rng.randrange(-s.a.shape[d], s.a.shape[d]))


@op()
def unbind(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    parts = s.a.unbind(s.axis(2))
    return parts[0] * parts[-1] if s.one(True, False) else parts[1]


@op(2)
def fused_attention(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    h, d = 2, 3
    y = s.layer(lambda: nn.Linear(s.n, 3 * h * d))(s.a)
    b, t, _ = y.shape
    if s.one(True, False):
        q, k, v = y.reshape(b, t, 3, h, d).permute(2, 0, 3, 1, 4).unbind(0)
    else:
        q, k, v = y.reshape(b, t, h, 3 * d).transpose(1, 2).chunk(3, -1)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=s.one(True, False))
    return s.layer(lambda: nn.Linear(h * d, s.n), "o")(out.transpose(1, 2).reshape(b, t, h * d))


@op()
def attention(s: Step) -> Tensor:
    need(s.a.ndim >= 3)
    return F.scaled_dot_product_attention(s.a, s.b, s.a)


@op()
def grouped_queries(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    q = s.layer(lambda: nn.Linear(s.n, 12), "q")(s.a).unflatten(-1, (4, 3)).transpose(1, 2)
    k = s.layer(lambda: nn.Linear(s.n, 6), "k")(s.a).unflatten(-1, (2, 3)).transpose(1, 2)
    if s.one(True, False):
        return F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    return F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), k.repeat_interleave(2, 1))


@op()
def module_attention(s: Step) -> Tensor:
    need(s.a.ndim == 3 and s.n % 2 == 0)
    return s.layer(lambda: nn.MultiheadAttention(s.n, 2, batch_first=True))(
        s.a, s.a, s.a, need_weights=False
    )[0]


@op()
def handmade_attention(s: Step) -> Tensor:
    need(s.a.ndim >= 3)
    scores = s.a @ s.b.transpose(-1, -2)
    t = scores.shape[-1]
    if s.one(True, False):
        scores = scores.masked_fill(torch.ones(t, t).tril() == 0, -1e9)
    return scores.softmax(-1) @ s.a


@op()
def rotary(s: Step) -> Tensor:
    need(s.n % 2 == 0)
    half = torch.cat([-s.a[..., s.n // 2 :], s.a[..., : s.n // 2]], -1)
    angles = torch.arange(s.n).to(s.a.dtype)
    return s.a * angles.cos() + half * angles.sin()


@op()
def outer(s: Step) -> Tensor:
    need(s.a.ndim == 2)
    return s.a.unsqueeze(-1) * s.b.unsqueeze(-2)


@op()
def outer_sum(s: Step) -> Tensor:
    need(s.a.ndim == 2)
    return s.a.unsqueeze(-1) + s.b.unsqueeze(-2)


@op()
def gram(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    return s.a @ s.b.transpose(-1, -2) if s.one(True, False) else s.a.transpose(-1, -2) @ s.b


@op(2)
def einsum(s: Step) -> Tensor:
    two = ["bi,bj->bij", "bi,bi->b", "bi,bi->bi"]
    three = ["bij,bij->bj", "bij,bkj->bik", "bij,bik->bjk", "bij,bij->bi"]
    need(s.a.ndim in (2, 3))
    y = torch.einsum(s.rng.choice(two if s.a.ndim == 2 else three), s.a, s.b)
    return y[:, None] if y.ndim == 1 else y


@op()
def bilinear(s: Step) -> Tensor:
    need(s.a.ndim == 2)
    return s.layer(lambda: nn.Bilinear(s.n, s.n, 3))(s.a, s.b)


@op()
def einsum_weight(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    return torch.einsum("btd,hdk->bhtk", s.a, s.parameter((2, s.n, 3)))


@op()
def cumulated(s: Step) -> Tensor:
    return s.a.cumsum(s.axis())


@op()
def flipped(s: Step) -> Tensor:
    return s.a.flip(s.axis())


@op()
def rolled(s: Step) -> Tensor:
    return s.a.roll(1, s.axis()) if s.one(True, False) else s.a.roll((1, 1), (s.axis(), -1))


@op()
def sort(s: Step) -> Tensor:
    y = s.a.sort(dim=s.axis(), descending=s.one(True, False))
    return y.values if s.one(True, False) else y.indices.to(s.a.dtype)


@op()
def sort_stable(s: Step) -> Tensor:
    return torch.sort(s.a, stable=True, dim=s.axis()).values


@op()
def argsort(s: Step) -> Tensor:
    return s.a.argsort(dim=s.axis(), descending=s.one(True, False)).to(s.a.dtype)


@op()
def topk(s: Step) -> Tensor:
    d = s.axis(3)
    y = s.a.topk(2, d, largest=s.one(True, False))
    return y.values if s.one(True, False) else y.indices.to(s.a.dtype)


@op()
def topk_gate(s: Step) -> Tensor:
    need(s.n > 2)
    values, places = s.a.topk(2, -1)
    return torch.zeros_like(s.a).scatter(-1, places, values)


@op(3)
def reduced(s: Step) -> Tensor:
    d, keep = s.axis(), s.one(True, False)
    need(keep or s.a.ndim > 2)
    kind = s.one(
        "sum", "mean", "amax", "amin", "var", "std", "logsumexp", "prod", "norm", "max", "min", "l1", "argmax"
    )
    if kind in ("max", "min"):
        y = getattr(s.a, kind)(d, keepdim=keep)
        return y.values if s.one(True, True, False) else y.indices.to(s.a.dtype)
    if kind == "norm":
        return torch.linalg.vector_norm(s.a, dim=d, keepdim=keep)
    if kind == "l1":
        return s.a.norm(p=1, dim=d, keepdim=keep)
    if kind in ("var", "std"):
        need(s.a.shape[d] > 1)
        return getattr(s.a, kind)(d, keepdim=keep, unbiased=s.one(True, False))
    return getattr(s.a, kind)(d, keepdim=keep).to(s.a.dtype)


@op()
def reduced_many(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    dims = s.one((1, 2), (-1, -2), (-1,))
    return s.a - getattr(s.a, s.one("sum", "mean", "amax"))(dims, keepdim=True)


@op()
def reduced_all(s: Step) -> Tensor:
    return s.a * getattr(s.a, s.one("sum", "mean", "max", "min", "amax", "norm"))().tanh()


@op()
def any_all(s: Step) -> Tensor:
    return getattr(s.a > 0.5, s.one("any", "all"))(s.axis(), keepdim=True).to(s.a.dtype)


@op()
def standardised(s: Step) -> Tensor:
    d = s.axis(2)
    return (s.a - s.a.mean(d, keepdim=True)) / (s.a.std(d, keepdim=True) + 0.1)


@op()
def normalised(s: Step) -> Tensor:
    return F.normalize(s.a, dim=s.axis(), p=s.one(1, 2))


@op()
def shares(s: Step) -> Tensor:
    d = s.axis()
    return s.a.softmax(d) if s.one(True, False) else s.a.log_softmax(d)


@op()
def one_hot(s: Step) -> Tensor:
    return F.one_hot(s.a.argmax(-1), s.n).to(s.a.dtype) * s.a


@op()
def looked_up(s: Step) -> Tensor:
    need(s.a.ndim in (2, 3))
    return s.layer(lambda: nn.Embedding(s.n, 6))(s.a.argmax(-1))


@op()
def looked_up_all(s: Step) -> Tensor:
    return s.layer(lambda: nn.Embedding(3, 4))((s.a > 0).long() + (s.a > 1).long())


@op()
def bag(s: Step) -> Tensor:
    need(s.a.ndim == 2)
    return s.layer(lambda: nn.EmbeddingBag(3, 5, mode=s.one("sum", "mean", "max")))((s.a > 0).long())


@op()
def positions(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    return s.a + s.layer(lambda: nn.Embedding(12, s.n))(torch.arange(s.a.shape[1]))


@op()
def gather(s: Step) -> Tensor:
    d = s.axis()
    order = s.b.argsort(d) if s.one(True, False) else torch.zeros(s.a.shape, dtype=torch.long)
    return s.a.gather(d, order)


@op()
def gather_narrow(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    return s.a.gather(1, s.a[:, :1, : s.n // 2].argsort(-1).clamp(max=s.a.shape[1] - 1))


@op()
def indexed(s: Step) -> Tensor:
    return s.a[..., torch.arange(s.n).roll(1)]


@op()
def indexed_two(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    rows = torch.arange(s.a.shape[1])
    return (
        s.a[:, rows, rows % s.a.shape[2]]
        if s.one(True, False)
        else s.a[:, rows, :, rows % s.n].transpose(0, 1)
    )


@op()
def indexed_by_place(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    return s.a[torch.arange(len(s.a)), s.a.sum(-1).argmax(-1)]


@op()
def indexed_parameter(s: Step) -> Tensor:
    need(s.a.ndim == 2)
    return s.parameter((s.n, 5))[s.a.argmax(-1)]


@op()
def index_select(s: Step) -> Tensor:
    d = s.axis()
    return s.a.index_select(d, torch.tensor([0, s.a.shape[d] - 1, 0]))


@op()
def padded(s: Step) -> Tensor:
    return F.pad(s.a, (s.rng.randrange(3), s.rng.randrange(-1, 3)), value=s.one(0.0, 0.0, 1.0))


@op()
def padded_channels(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    return F.pad(s.a, (0, 0, 1, 2))


@op()
def padded_otherwise(s: Step) -> Tensor:
    need(s.a.ndim == 3 and s.n > 2)
    return F.pad(s.a, (1, 1), mode=s.one("reflect", "replicate"))


@op()
def repeated(s: Step) -> Tensor:
    return (
        s.a.repeat(*[1] * (s.a.ndim - 1), 2)
        if s.one(True, False)
        else s.a.repeat(1, 2, *[1] * (s.a.ndim - 2))
    )


@op()
def interleaved(s: Step) -> Tensor:
    return s.a.repeat_interleave(2, s.axis())


@op()
def expanded(s: Step) -> Tensor:
    return s.a.unsqueeze(1).expand(-1, 3, *[-1] * (s.a.ndim - 1))


@op()
def expanded_last(s: Step) -> Tensor:
    return s.a.unsqueeze(-1).expand(*s.a.shape, 2)


@op()
def expanded_parameter(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    return torch.cat([s.parameter((1, 1, s.n)).expand(len(s.a), -1, -1), s.a], 1)


@op()
def with_zeros(s: Step) -> Tensor:
    return torch.cat([torch.zeros_like(s.a), s.a], -1)


@op()
def with_ones(s: Step) -> Tensor:
    return torch.cat([s.a, s.a.new_ones(*s.a.shape[:-1], 1)], -1)


@op()
def ones(s: Step) -> Tensor:
    return s.a + torch.ones(s.n)


@op()
def full_of_pi(s: Step) -> Tensor:
    return torch.full_like(s.a, 0.5) * s.a + torch.full((s.n,), 0.1)


@op()
def lower(s: Step) -> Tensor:
    return s.a @ torch.tril(torch.ones(s.n, s.n))


@op()
def lower_of_value(s: Step) -> Tensor:
    need(s.a.ndim > 2)
    return s.a.tril() if s.one(True, False) else s.a.triu(1)


@op()
def eye(s: Step) -> Tensor:
    return s.a @ torch.eye(s.n)


@op()
def constant(s: Step) -> Tensor:
    return s.a * torch.tensor([1.0, 2.0]).repeat(s.n)[: s.n]


@op()
def pool(s: Step) -> Tensor:
    need(s.a.ndim in (3, 4))
    if s.a.ndim == 3:
        return s.one(F.max_pool1d, F.avg_pool1d)(s.a, 2)
    return s.one(F.max_pool2d, F.avg_pool2d)(s.a, 2)


@op()
def pool_adaptive(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    size = s.one(1, 2)
    return s.one(F.adaptive_avg_pool2d, F.adaptive_max_pool2d)(s.a, size)


@op()
def upsampled(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    return F.interpolate(s.a, scale_factor=2, mode=s.one("nearest", "bilinear"))


@op()
def shuffled(s: Step) -> Tensor:
    need(s.a.ndim == 4 and s.a.shape[1] % 4 == 0)
    return F.pixel_shuffle(s.a, 2)


@op()
def unshuffled(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    return F.pixel_unshuffle(s.a, 2)


@op()
def channel_shuffle(s: Step) -> Tensor:
    need(s.a.ndim == 4 and s.a.shape[1] % 2 == 0)
    return F.channel_shuffle(s.a, 2)


@op()
def excited(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    c = s.a.shape[1]
    y = s.layer(lambda: nn.Linear(c, 3), "r")(s.a.mean((2, 3))).relu()
    return s.a * s.layer(lambda: nn.Linear(3, c), "e")(y).sigmoid()[:, :, None, None]


@op()
def prelu(s: Step) -> Tensor:
    return s.layer(lambda: nn.PReLU(s.one(1, s.a.shape[1])))(s.a)


@op()
def unfolded(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    return F.unfold(s.a, 2)


@op()
def windows(s: Step) -> Tensor:
    need(s.n > 2)
    return s.a.unfold(-1, 2, s.one(1, 2))


@op()
def strided(s: Step) -> Tensor:
    d = s.axis(2)
    return s.a.transpose(d, -1)[..., s.one(0, 1) :: 2].transpose(d, -1)


@op()
def distances(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    return torch.cdist(s.a, s.b)


@op()
def written(s: Step) -> Tensor:
    n = s.n // 2
    return torch.slice_scatter(s.a, s.b[..., :n] * 2, -1, s.one(0, None), n)


@op()
def written_one(s: Step) -> Tensor:
    return torch.select_scatter(s.a, s.b[:, 0] * s.one(0.5, 0.0), 1, s.one(0, -1))


@op()
def zeroed_half(s: Step) -> Tensor:
    return torch.slice_scatter(torch.zeros_like(s.a), s.a[..., : s.n // 2], -1, 0, s.n // 2)


@op()
def masked_scatter(s: Step) -> Tensor:
    return torch.where((s.b > 0).any(-1, keepdim=True), s.a, s.a.flip(0) * 0.5)


@op()
def cell(s: Step) -> Tensor:
    need(s.a.ndim == 2)
    if s.one(True, False):
        return s.layer(lambda: nn.GRUCell(s.n, s.n))(s.a, s.b)
    return s.layer(lambda: nn.LSTMCell(s.n, s.n))(s.a, (s.b, s.a.tanh()))[0]


@op()
def recurrent(s: Step) -> Tensor:
    need(s.a.ndim == 3 and s.a.shape[1] <= 6)
    kind = s.one(nn.LSTM, nn.GRU, nn.RNN)
    return s.layer(lambda: kind(s.n, 4, batch_first=True, bidirectional=s.one(False, True)))(s.a)[0]


@op()
def ladder(s: Step) -> Tensor:
    y = s.layer(lambda: nn.Linear(s.n, 8), "u")(s.a)
    p, q = y.chunk(2, -1)
    return s.a + s.layer(lambda: nn.Linear(4, s.n), "d")(F.silu(p) * q)


@op()
def fused_gates(s: Step) -> Tensor:
    y = s.layer(lambda: nn.Linear(s.n, 12, bias=False))(s.a)
    y = y.reshape(*y.shape[:-1], 3, 4)
    return y[..., 0, :].sigmoid() * y[..., 1, :].tanh() + y[..., 2, :]


@op()
def mixed_tokens(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    t = s.a.shape[1]
    return s.a + s.layer(lambda: nn.Linear(t, t))(s.a.transpose(1, 2)).transpose(1, 2)


@op()
def experts(s: Step) -> Tensor:
    need(s.a.ndim == 2)
    share = s.layer(lambda: nn.Linear(s.n, 3), "g")(s.a).softmax(-1)
    y = torch.einsum("bd,edf->bef", s.a, s.parameter((3, s.n, 5), "w")).relu()
    return torch.einsum("be,bef,efd->bd", share, y, s.parameter((3, 5, 4), "v"))


@op()
def local_response(s: Step) -> Tensor:
    need(s.a.ndim == 4)
    return F.local_response_norm(s.a, 2)


@op()
def cosine(s: Step) -> Tensor:
    need(s.a.ndim == 3)
    return F.cosine_similarity(s.a, s.b, dim=1)


@op()
def depth_of_parameter(s: Step) -> Tensor:
    """A weight that is itself computed: a product of two parameters."""
    w = s.parameter((5, 2), "l") @ s.parameter((2, s.n), "r")
    return F.linear(s.a, w)


@op()
def weight_standardised(s: Step) -> Tensor:
    w = s.parameter((5, s.n))
    return F.linear(s.a, (w - w.mean(1, keepdim=True)) / (w.std(1, keepdim=True) + 0.1))


@op()
def weight_masked(s: Step) -> Tensor:
    w = s.parameter((s.n, s.n))
    return F.linear(s.a, w * torch.tril(torch.ones(s.n, s.n)))


@op()
def weight_symmetric(s: Step) -> Tensor:
    w = s.parameter((s.n, s.n))
    return F.linear(s.a, w + w.t())


@op()
def low_rank(s: Step) -> Tensor:
    base = s.layer(lambda: nn.Linear(s.n, 6), "w")
    return (
        base(s.a)
        + s.layer(lambda: nn.Linear(2, 6, bias=False), "b")(
            s.layer(lambda: nn.Linear(s.n, 2, bias=False), "a")(s.a)
        )
        * 0.5
    )


@op()
def decayed(s: Step) -> Tensor:
    """A state-space step: exponents of a parameter times a value, summed over time by hand."""
    need(s.a.ndim == 3)
    a = -torch.exp(s.parameter((s.n,)))
    step = F.softplus(s.b)
    state, out = torch.zeros_like(s.a[:, 0]), []
    for t in range(min(3, s.a.shape[1])):
        state = state * torch.exp(step[:, t] * a) + step[:, t] * s.a[:, t]
        out.append(state)
    return torch.stack(out, 1)


@op()
def function_of_one(s: Step) -> Tensor:
    a = s.a
    return s.one(
        torch.asinh, torch.sinh, torch.tan, torch.trunc, torch.expm1, torch.exp2, torch.cosh, torch.frac, torch.ceil,
        torch.erfc, F.celu, F.selu, F.hardsigmoid, F.hardshrink, F.softshrink, torch.special.i0, torch.special.i1,
        torch.positive, torch.lgamma, lambda a: torch.logit(a.sigmoid()), lambda a: torch.erfinv(a.tanh() * 0.9),
        lambda a: torch.asin(a.tanh() * 0.9), lambda a: torch.acos(a.tanh() * 0.9), lambda a: torch.atanh(a.tanh() * 0.9),
        lambda a: torch.log2(a.abs() + 1), lambda a: torch.log10(a.abs() + 1), lambda a: a.clamp_max(0.3),
        lambda a: torch.isinf(a).to(a.dtype), torch.sgn, lambda a: torch.heaviside(a, torch.zeros_like(a)),
    )(a.clamp(-3, 3))  # fmt: skip


@op()
def function_of_two(s: Step) -> Tensor:
    a, b = s.a, s.b
    return s.one(
        torch.fmin, torch.logaddexp2, lambda a, b: torch.xlogy(a, b.abs() + 1), lambda a, b: torch.isclose(a, b).to(a.dtype),
        lambda a, b: ((a > 0) ^ (b > 0)).to(a.dtype), lambda a, b: torch.logical_or(a > 0, b > 0).to(a.dtype),
        lambda a, b: torch.logical_xor(a > 0, b > 0.3).to(a.dtype), lambda a, b: torch.fmod(a, b.abs() + 1),
        lambda a, b: torch.where(a > 0, a * 0, b), lambda a, b: torch.where(a[..., :1] > 0, a, b),
        lambda a, b: torch.where(torch.ones(1, dtype=torch.bool), a, b), lambda a, b: a * b[:, :1],
        lambda a, b: a + b[..., :1], lambda a, b: a / (b.abs().sum(-1, keepdim=True) + 1),
    )(a, b)  # fmt: skip


@op()
def ordered_along(s: Step) -> Tensor:
    d = s.axis(2)
    a = s.a.clamp(-2, 2)
    return s.one(
        lambda: a.cumprod(d), lambda: a.logcumsumexp(d), lambda: a.cummax(d).values, lambda: a.cummin(d).values,
        lambda: a.kthvalue(2, d, keepdim=True).values, lambda: a.argmin(d, keepdim=True).to(a.dtype), lambda: a.median(d, keepdim=True).values,
        lambda: a.kthvalue(1, d, keepdim=True).indices.to(a.dtype), lambda: a.diff(dim=d),
    )()  # fmt: skip


@op()
def statistics(s: Step) -> Tensor:
    d = s.axis(2)
    a = s.a
    return s.one(
        lambda: torch.std_mean(a, d, keepdim=True)[1], lambda: torch.var_mean(a, d, keepdim=True)[0],
        lambda: a.norm(p=float("inf"), dim=d, keepdim=True), lambda: a.var(correction=0) + a, lambda: a.aminmax(dim=d, keepdim=True)[0],
        lambda: a - a.max(), lambda: a.argmax().to(a.dtype) + a, lambda: a.std() * a, lambda: a * a.logsumexp(tuple(range(a.ndim))),
        lambda: a.sum((-1, 1), keepdim=True), lambda: a.softmax(d) * a.sum(d, keepdim=True),
    )()  # fmt: skip


@op()
def pooled_other(s: Step) -> Tensor:
    need(s.a.ndim in (3, 4))
    a = s.a
    if a.ndim == 3:
        return s.one(
            lambda: F.adaptive_avg_pool1d(a, 2), lambda: F.adaptive_max_pool1d(a, 1), lambda: F.interpolate(a, scale_factor=2),
            lambda: F.interpolate(a, scale_factor=2, mode="linear"), lambda: F.lp_pool1d(a, 2, 2), lambda: F.max_pool1d(a, 3, 1, 1),
        )()  # fmt: skip
    return s.one(
        lambda: F.interpolate(a, scale_factor=2, mode="bicubic"), lambda: F.pad(a, (1, 1, 1, 1), mode="reflect"),
        lambda: F.max_pool2d(a, 2, return_indices=True)[1].to(a.dtype), lambda: F.avg_pool2d(a, 3, 1, 1),
        lambda: F.interpolate(a, scale_factor=1.5, mode="nearest-exact"), lambda: F.pad(a, (1, 1, 0, 1), mode="replicate"),
        lambda: F.grid_sample(a, torch.rand(len(a), 2, 2, 2) * 2 - 1, align_corners=False),
    )() if not isinstance(a, int) else a  # fmt: skip


@op()
def shaped_otherwise(s: Step) -> Tensor:
    a = s.a
    return s.one(
        lambda: a.movedim(1, -1), lambda: a.swapaxes(1, -1), lambda: a[:, None], lambda: a[..., None, :], lambda: a.view_as(a.contiguous()),
        lambda: a.tile(2), lambda: a.roll(2), lambda: a.rot90(1, (1, -1)), lambda: a.narrow(-1, 1, s.n - 2), lambda: a[:, -1:],
        lambda: a[..., -2:], lambda: a[..., ::3], lambda: a.broadcast_to(a.shape), lambda: a[..., [0, 0]], lambda: a.hsplit(2)[1],
        lambda: torch.cat([a.new_zeros(len(a), 0), a], 1) if a.ndim == 2 else a.flatten(0, 1).unflatten(0, (len(a), -1)),
        lambda: a.diagonal(dim1=1, dim2=-1), lambda: torch.diag_embed(a), lambda: a.mT, lambda: torch.stack([a] * 2, -1).flatten(-2),
        lambda: torch.stack([a] * 2, -2).flatten(-2), lambda: a.expand(2, *a.shape)[1], lambda: a.reshape(len(a), -1, 2),
    )()  # fmt: skip


@op()
def in_spread(s: Step) -> Tensor:
    """Constants that are alike along some axes only."""
    a = s.a
    return s.one(
        lambda: a * torch.tensor([[1.0], [2.0]]).expand(2, s.n)[:1], lambda: a + torch.zeros(s.n).index_fill(0, torch.tensor([0]), 1.0),
        lambda: a * torch.cat([torch.ones(1), torch.zeros(s.n - 1)]), lambda: a + torch.linspace(0, 1, s.n), lambda: a * torch.full((), 0.5),
        lambda: a + torch.zeros(s.n, dtype=torch.long), lambda: a * torch.full((s.n,), 0.7).to(torch.int64), lambda: torch.ones_like(a) * 0.3 + a,
        lambda: a * (torch.ones(s.n) > 0), lambda: a + torch.stack([torch.zeros(s.n), torch.ones(s.n)])[1], lambda: torch.zeros_like(a) + a.sum(-1, keepdim=True),
        lambda: a + torch.cat([torch.zeros(s.n), torch.zeros(s.n)]).reshape(2, s.n)[0], lambda: a * torch.ones(s.n).cumsum(0),
    )()  # fmt: skip


for _name in [
    "batch_norm",
    "layer_norm",
    "grouped_queries",
    "recurrent",
    "module_attention",
    "expanded_parameter",
    "positions",
    "excited",
]:
    WEIGHTED.extend([_name] * 2)
