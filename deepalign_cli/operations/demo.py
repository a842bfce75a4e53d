"""The main job on two small MNIST classifiers and some held-out digits that come with the package."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.evaluate.classifier import accuracy, mlp_logits
from deepalign_cli.operations.combine import Job, Report, merge_files
from deepalign_cli.operations.settings import Method, Settings

DATA = Path(__file__).parent.parent / "demo"
MEAN, STD = 0.1307, 0.3081  # of MNIST's training images, as examples/train_demo.py used them


@dataclass(frozen=True)
class DemoResult:
    """Accuracies on the shipped digits, from 0 to 1."""

    a: float
    b: float
    naive: float
    merged: float
    images: int
    report: Report


def run_demo(output: Path | None = None, *, force: bool = False) -> DemoResult:
    """Merge the two networks at alpha 0.5, once as they are and once aligned, and test all four.

    Raises:
        DeepalignError: the output cannot be written.
    """
    digits = open_checkpoint(DATA / "digits.safetensors")
    inputs = (digits["images"].float() / 255 - MEAN) / STD
    labels = digits["labels"].long()
    a, b = DATA / "a.safetensors", DATA / "b.safetensors"

    def tested(path: Path) -> float:
        return accuracy(_logits(path, inputs), labels)

    with tempfile.TemporaryDirectory() as folder:
        naive, merged = Path(folder) / "naive.safetensors", output or Path(folder) / "merged.safetensors"
        merge_files(Job((a, b), naive, Settings(method=Method.NONE)))
        report = merge_files(Job((a, b), merged, Settings(force=force)))
        return DemoResult(tested(a), tested(b), tested(naive), tested(merged), len(labels), report)


def _logits(path: Path, inputs: Float[Tensor, "batch in"]) -> Float[Tensor, "batch classes"]:
    return mlp_logits(dict(open_checkpoint(path)), inputs)
