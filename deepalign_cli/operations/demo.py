"""The main job on two small MNIST classifiers and some held-out digits that come with the package."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from deepalign_cli.operations.barrier import BarrierReport, Question, barrier_files
from deepalign_cli.operations.job import Job, Report
from deepalign_cli.operations.merge import merge_files
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import SILENT, Progress

DATA = Path(__file__).parent.parent / "demo"
_DIGITS = DATA / "digits.safetensors"


@dataclass(frozen=True)
class DemoResult:
    """How the networks were merged, and what every merge of them costs on the shipped digits."""

    report: Report
    barrier: BarrierReport

    @property
    def images(self) -> int:
        """How many digits they are measured on."""
        return self.barrier.examples[0]

    @property
    def accuracies(self) -> dict[str, float]:
        """Of A, of B, of their plain average, and of the average of A and aligned B; from 0 to 1."""
        naive, aligned = (path.curves[0] for path in self.barrier.paths)
        assert naive.accuracies is not None
        assert aligned.accuracies is not None
        half = len(naive.alphas) // 2
        return {
            "a": naive.accuracies[0], "b": naive.accuracies[-1],
            "naive": naive.accuracies[half], "merged": aligned.accuracies[half],
        }  # fmt: skip


def run_demo(output: Path | None = None, *, force: bool = False, progress: Progress = SILENT) -> DemoResult:
    """Merge the two networks without data, and measure both paths from A to B on the digits.

    Raises:
        DeepalignError: the output cannot be written.
    """
    inputs = DATA / "a.safetensors", DATA / "b.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        merged, alignment = output or Path(folder) / "merged.safetensors", Path(folder) / "ab.alignment"
        job = Job(inputs, merged, Settings(force=force), save=alignment)
        report = merge_files(job, progress=progress.part(0.5, "merging"))
        question = Question(inputs, running=RunSettings(data=str(_DIGITS)), alignments=(alignment,))
        barrier = barrier_files(question, progress.part(0.5))
    return DemoResult(report, barrier)
