"""The barrier between two transformers of `rotation_pairs.py`, as they were trained or once one is aligned.

    python benchmarks/rotation_barrier.py --pairs FOLDER [--only llama-2] [--aligned FOLDER] [--points 11]

FOLDER/NAME.safetensors under --aligned takes the place of NAME's second network. Also to be imported:

    pair = load_pair(folder, "llama-2")
    curve(pair, pair.a, aligned).barrier

The barrier is the largest excess of the test loss over the straight line between the ends' losses; never
below 0. Accuracy is that of the images' classes, or of every next character.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

Weights = Mapping[str, Tensor]
DATA = "data.safetensors"
POINTS = 11
_BATCH = {"images": 1_000, "rows": 100}


class Examples(NamedTuple):
    """Inputs and answers, for training and testing; rows of characters, to be continued, have no answers."""

    train_x: Tensor
    train_y: Tensor | None
    test_x: Tensor
    test_y: Tensor | None


@dataclass(frozen=True)
class Pair:
    """Two networks of one class, the module that runs either, and examples as the module reads them."""

    name: str
    model: nn.Module
    a: dict[str, Tensor]
    b: dict[str, Tensor]
    examples: Examples


@dataclass(frozen=True)
class Curve:
    """Mean test losses and accuracies at evenly spaced points, from the first network to the second."""

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def barrier(self) -> float:
        """The largest excess over the straight line between the ends."""
        last = len(self.losses) - 1
        lines = ((1 - i / last) * self.losses[0] + i / last * self.losses[-1] for i in range(last + 1))
        return max(0.0, *(loss - line for loss, line in zip(self.losses, lines, strict=True)))

    @property
    def midpoint_accuracy(self) -> float:
        """The accuracy of the average of both networks."""
        return self.accuracies[len(self.accuracies) // 2]

    @property
    def perplexities(self) -> tuple[float, ...]:
        """The losses' exponentials."""
        return tuple(math.exp(loss) for loss in self.losses)


def pair_names(folder: Path) -> list[str]:
    """The pairs of which both networks are there."""
    return sorted(
        path.name
        for path in Path(folder).iterdir()
        if all((path / part).exists() for part in ("a", "b", DATA))
    )


def load_pair(folder: Path, name: str) -> Pair:
    """Both networks of a pair, in float32, and its examples."""
    a, b = (load_model(Path(folder) / name / which) for which in "ab")
    states = (dict(model.state_dict()) for model in (a, b))
    return Pair(name, a, *states, read_examples(Path(folder) / name / DATA))


def load_model(folder: Path) -> nn.Module:
    """A network of the class that its config.json names."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    model: Any = getattr(transformers, config.architectures[0]).from_pretrained(folder)
    return model.eval().requires_grad_(False)


def read_examples(path: Path) -> Examples:
    """The examples of a pair; images [n, 1, 28, 28] are in [-1, 1], characters [n, 100] are numbers."""
    tensors = load_file(path)
    if "test_tokens" in tensors:
        return Examples(tensors["train_tokens"], None, tensors["test_tokens"], None)
    images, more = (tensors[f"{part}_images"].float() / 127.5 - 1 for part in ("train", "test"))
    return Examples(images, tensors["train_labels"], more, tensors["test_labels"])


@torch.no_grad()
def score_of(model: nn.Module, weights: Weights, examples: Examples) -> tuple[float, float]:
    """The mean test loss and the accuracy of a model with some weights, of any floating-point type."""
    dtype = next(w.dtype for w in weights.values() if w.is_floating_point())
    x, y = examples.test_x, examples.test_y
    size = _BATCH["rows" if y is None else "images"]
    loss, right, count = 0.0, 0.0, 0
    for start in range(0, len(x), size):
        inputs = x[start : start + size]
        shown = inputs.to(dtype) if inputs.is_floating_point() else inputs
        logits = torch.func.functional_call(model, dict(weights), (shown,)).logits
        if y is None:
            logits, labels = logits[:, :-1].flatten(0, 1), inputs[:, 1:].flatten()
        else:
            labels = y[start : start + size]
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        right += float((logits.argmax(1) == labels).sum())
        count += len(labels)
    return loss / count, right / count


def curve(pair: Pair, a: Weights, b: Weights, points: int = POINTS) -> Curve:
    """Losses and accuracies on the straight line between two networks that the pair's module can run."""
    scores = []
    for i in range(points):
        t = i / (points - 1)
        mixed = {name: torch.lerp(w, b[name], t) if w.is_floating_point() else w for name, w in a.items()}
        scores.append(score_of(pair.model, mixed, pair.examples))
    losses, accuracies = zip(*scores, strict=True)
    return Curve(losses, accuracies)


def main() -> None:
    """Parse the command line and print a row for each pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--aligned", type=Path)
    parser.add_argument("--points", type=int, default=POINTS)
    arguments = parser.parse_args()
    print(
        "| pair | losses of the two | accuracies | barrier | midpoint: loss | accuracy |\n" + "|---" * 6 + "|"
    )
    for name in arguments.only or pair_names(arguments.pairs):
        pair = load_pair(arguments.pairs, name)
        b = load_file(arguments.aligned / f"{name}.safetensors") if arguments.aligned else pair.b
        found = curve(pair, pair.a, b, arguments.points)
        ends = [f"{row[0]:.3f}, {row[-1]:.3f}" for row in (found.losses, found.accuracies)]
        middle = found.losses[len(found.losses) // 2]
        print(
            f"| {name} | {' | '.join(ends)} | {found.barrier:.3f} | {middle:.3f} | "
            f"{found.midpoint_accuracy:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
