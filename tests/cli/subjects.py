"""What the tests of `barrier` and its kin run networks as and on: factories in a file, small data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests import nets
from tests.operations.making import Done, network, planted, save

POINTS = ("--points", 5)
ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]
WEIGHTS = ("-m", "weights", "--restarts", 1)
FACTORY = """
from tests import nets


def make(kind="named_mlp"):
    return nets.ALL[kind]()[0]


def wider():
    return nets.named_mlp((12, 17, 20, 5))


def raises():
    raise RuntimeError("no luck\\ntoday")


def none():
    return None


def blows_up():
    from torch import nn

    class Loud(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nets.ALL["named_mlp"]()[0]
            for name, child in self.inner.named_children():
                self.add_module(name, child)
            del self.inner

        def forward(self, x):
            return x @ x.new_zeros(99, 5)

    return Loud()
"""


def factory(folder: Path, name: str = "make") -> str:
    """A Python file with factories, as `--model` takes it."""
    path = folder / "factories.py"
    path.write_text(FACTORY)
    return f"{path}:{name}"


def data_set(
    folder: Path, kind: str = "named_mlp", count: int = 24, classes: int = 5, name: str = "data.npz",
    teacher: nn.Module | None = None,
) -> Path:  # fmt: skip
    """Standard normal inputs of the network, `count` to test and as many to train.

    Labels are the `teacher`'s, else random.
    """
    shape = nets.ALL[kind]()[1]
    rng = np.random.default_rng(3)
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        x = rng.normal(size=(count, *shape)).astype("float32")
        arrays[f"{split}_inputs"], arrays[f"{split}_labels"] = x, rng.integers(0, classes, count)
        if teacher is not None:
            with torch.no_grad():
                arrays[f"{split}_labels"] = teacher(torch.from_numpy(x)).argmax(1).numpy()
    np.savez(folder / name, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    return folder / name


def examples(path: Path, split: str = "test") -> tuple[Tensor, Tensor]:
    """The inputs and labels of a split."""
    with np.load(path) as arrays:
        return torch.from_numpy(arrays[f"{split}_inputs"]), torch.from_numpy(arrays[f"{split}_labels"])


def measured(
    module: nn.Module, weights: Mapping[str, Tensor], x: Tensor, labels: Tensor
) -> tuple[float, float]:
    """Cross-entropy and accuracy, by nothing but PyTorch."""
    module.load_state_dict(dict(weights))
    with torch.no_grad():
        out = module.eval()(x)
    return float(functional.cross_entropy(out, labels)), float((out.argmax(1) == labels).double().mean())


def between(a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The network on the straight line; integers are A's."""
    return {n: (1 - alpha) * w + alpha * b[n] if w.is_floating_point() else w for n, w in a.items()}


def figures(alphas: Sequence[float], losses: Sequence[float], shares: Sequence[float]) -> dict[str, float]:
    """What is read off a curve, by NumPy and the definitions."""
    t, loss, error = np.array(alphas), np.array(losses), 1 - np.array(shares)
    excess, wrong = (v - ((1 - t) * v[0] + t * v[-1]) for v in (loss, error))
    return {
        "barrier": max(0.0, excess.max()),
        "error_barrier": max(0.0, wrong.max()),
        "auc": np.trapezoid(excess, t),
        "auc_clipped": np.trapezoid(excess.clip(0), t),
        "midpoint_loss": np.interp(0.5, t, loss),
        "midpoint_accuracy": np.interp(0.5, t, np.array(shares)),
    }


def given(folder: Path, kind: str = "named_mlp") -> tuple[object, ...]:
    """The options that name the model and the data."""
    return "--model", factory(folder), "--model-arg", f"kind={kind}", "--data", data_set(folder, kind)


def changed(words: Sequence[object], option: str, value: object) -> list[object]:
    """The words with another value of an option, wherever it was given."""
    places = [i for i, word in enumerate(words) if word == option]
    left = [word for i, word in enumerate(words) if not {i, i - 1} & set(places)]
    return [*left, option, value]


def same_function(folder: Path) -> tuple[Path, Path]:
    """A network, and the same with its units in another order."""
    a, b = save(network("named_mlp", 0), folder / "a.pt"), folder / "b.pt"
    planted(a, b)
    return a, b


def taught(folder: Path) -> tuple[object, ...]:
    """As `given`, with the labels that the first network of `pair` gives."""
    return "--model", factory(folder), "--data", data_set(folder, teacher=network("named_mlp", 0))


def by_method(told: Mapping[str, Any], data: str = "") -> dict[str, dict[str, Any]]:
    """The paths of one data set by their methods."""
    return {path["method"]: path for path in told["paths"] if data in path["data"]}


def refused(done: Done, code: int, message: str, *, as_json: bool = False) -> None:
    """One sentence and a hint on stderr, nothing on stdout."""
    assert (done.code, done.out) == (code, "")
    if as_json:
        assert message in done.error["message"]
        return
    lines = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert len(lines) == 2
    assert "Traceback" not in done.err


def overflowing(folder: Path) -> tuple[Path, Path]:
    """Two networks with finite outputs, between which the outputs overflow float32."""
    for name, sizes in (("a", (1e37, 1e-37)), ("b", (1e-37, 1e37))):
        state = {n: torch.zeros_like(w) for n, w in network("named_mlp", 0).state_dict().items()}
        state["fc1.bias"] += 1
        state["fc2.weight"] += sizes[0]
        state["fc3.weight"] += sizes[1]
        save(state, folder / f"{name}.pt")
    return folder / "a.pt", folder / "b.pt"
