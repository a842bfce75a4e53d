"""Curves and landscapes for pictures, from plain to awkward."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch

from deepalign_cli.measure.curve import Curve
from deepalign_cli.measure.plane import Landscape

Names = tuple[str, str]
Places = dict[str, tuple[float, float]]
LONG = "runs/seed_0_learning_rate_0.001_weight_decay_0.0005_batch_256/checkpoints/epoch_100/model.safetensors"


def curve(method: str, barrier: float, *, ends: tuple[float, float] = (0.1, 0.12), data: str = "",
          labels: bool = True, bad: Collection[int] = (), points: int = 25) -> Curve:  # fmt: skip
    """A half wave above the straight line between the ends; NaN at the places `bad`."""
    alphas = tuple(i / (points - 1) for i in range(points))
    losses = tuple(
        math.nan if i in bad else (1 - a) * ends[0] + a * ends[1] + barrier * math.sin(math.pi * a)
        for i, a in enumerate(alphas)
    )
    shares = tuple(math.exp(-loss) if math.isfinite(loss) else 0.1 for loss in losses)
    return Curve(method, alphas, losses, shares if labels else None, 1.0, data)


def _sets(*names: str) -> list[Curve]:
    methods = (("none", 2.2), ("weights", 0.5), ("deepalign", 0.1))
    return [curve(m, b, data=d) for d in names for m, b in methods]


def _several(*barriers: tuple[str, float], ends: tuple[float, float] = (0.1, 0.12)) -> list[Curve]:
    return [curve(m, b, ends=ends) for m, b in barriers]


_FIVE = (("none", 2.2), ("weights", 0.5), ("activations", 0.25), ("dual", 0.2), ("deepalign", 0.1))
_AB = ("a.pt", "b.pt")
CURVES: dict[str, tuple[list[Curve], Names | None, str]] = {
    "one": ([curve("deepalign", 0.3)], _AB, ""),
    "two, with a title": (_several(("none", 2.2), ("deepalign", 0.1)), _AB, "What it costs"),
    "five methods": (_several(*_FIVE), ("runs/0/model.safetensors", "runs/1/model.safetensors"), ""),
    "eight, without labels": (
        [curve(m + r, b * (0.6 if r else 1), labels=False)
         for m, b in (("none", 2.2), ("weights", 0.5), ("activations", 0.4), ("deepalign", 0.2))
         for r in ("", " + repair")], _AB, "",
    ),
    "long names": (
        [curve("none", 2.2, data=LONG), curve("a_method_of_an_unreasonably_long_name", 0.5, data=LONG)],
        (LONG, LONG), LONG * 3,
    ),
    "equal curves": (_several(("none", 0.4), ("weights", 0.4), ("deepalign", 0.4)), _AB, ""),
    "tiny barrier": (_several(("none", 2e-4), ("deepalign", 1e-5), ends=(2.3, 2.3)), None, ""),
    "huge naive": (_several(("none", 4e3), ("weights", 0.5), ("deepalign", 0.03)), None, ""),
    "sloping": (_several(("none", 0.8), ("weights", 0.4), ("deepalign", 0.05), ends=(0.1, 1.5)), None, ""),
    "below the line": (_several(("none", -0.2), ("deepalign", -0.5), ends=(1, 2)), None, ""),
    "all zero": ([curve("deepalign", 0.0, ends=(0, 0))], None, ""),
    "not finite": (
        [curve("none", 2.2, bad=(10, 11, 12)), curve("weights", 0.5, bad=(12,)), curve("deepalign", 0.2)],
        None, "",
    ),
    "never finite": ([curve("none", 1.0, bad=range(25)), curve("deepalign", 1.0, bad=range(25))], None, ""),
    "two sets": (_sets("train", "test"), _AB, "Train and test"),
    "splits of a set": (_sets("d.npz, test, 1,000 examples", "d.npz, train, 9,000 examples"), _AB, ""),
    "three long sets": (_sets(LONG, "test", LONG + "2"), (LONG, LONG), ""),
    "pairs": (
        [c for f in (0.8, 1.0, 1.3) for c in _several(("none", 2.2 * f), ("deepalign", f / 10))], None, "",
    ),
    "strange names": (
        _several(("none", 0.8), ("deepalign", 0.05)),
        ("模型/$a_1$.pt", "<b>%{y}</b>\x1b[31m\udc80.pt"), "$x$ & <i>",
    ),
}  # fmt: skip

PLACES = {"A: a.pt": (0.0, 0.0), "B: b.pt": (20.0, 0.0), "aligned B": (6.0, 9.0)}
PATHS = (("A: a.pt", "B: b.pt"), ("A: a.pt", "aligned B"))


def landscape(places: Places = PLACES, paths: tuple[Names, ...] = PATHS,
              loss: Callable[[float, float], float] = lambda x, y: 0.1 + x * x + y * y,
              ) -> Landscape:  # fmt: skip
    """A grid around the places, a quarter of their extent beyond them."""
    columns = list(zip(*places.values(), strict=True))
    margin = max(max(c) - min(c) for c in columns) / 4
    xs, ys = (
        tuple(min(c) - margin + (max(c) - min(c) + 2 * margin) * i / 20 for i in range(21)) for c in columns
    )
    losses = torch.tensor([[loss(x, y) for x in xs] for y in ys], dtype=torch.float64)
    return Landscape(xs, ys, losses, places, paths, None, "test")


_LONGS = {f"A: {LONG}": (0.0, 0.0), f"B: {LONG}": (20.0, 0.0), f"aligned B: {LONG}": (1.0, 0.8)}
LANDSCAPES: dict[str, Landscape] = {
    "plain": landscape(),
    "long names, close to each other": landscape(_LONGS, ()),
    "tall": landscape({"A": (0.0, 0.0), "B": (3.0, 0.0), "C": (1.0, 40.0)}, (("A", "C"), ("B", "C"))),
    "wide": landscape({"A": (0.0, 0.0), "B": (300.0, 0.0), "C": (200.0, 20.0)}, (("A", "C"), ("B", "C"))),
    "partly finite": landscape(loss=lambda x, y: math.inf if x > 15 else math.nan if y > 12 else 1 + x * x),
    "never finite": landscape(loss=lambda x, y: math.nan),
    "level": landscape(loss=lambda x, y: 2.3),
    "zero": landscape(loss=lambda x, y: 0.0),
    "many decades": landscape(loss=lambda x, y: 10.0 ** (x / 2)),
}
