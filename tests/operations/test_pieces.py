from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.combiners.task_arithmetic import TaskArithmetic
from deepalign_cli.operations import pieces
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.stream import Stream
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.operations.making import save

# Sizes that are no multiples of what vector instructions take.
SPEC = Spec.parse(
    """
[axes]
"embed" = "37 53"
"q" = "h*7 53"
"o" = "53 h*7"
"up" = "k 53"
"bias" = "k"
"down" = "53 k"
"scalar" = ""
"steps" = "3"
"""
)
SHAPES = {"embed": (37, 53), "q": (35, 53), "o": (53, 35), "up": (61, 53), "bias": (61,), "down": (53, 61)}
SHAPES |= {"scalar": (), "steps": (3,)}
HASHES = ("1" * 64, "2" * 64, "3" * 64)


def networks(folder: Path, dtype: torch.dtype, count: int = 3) -> list[Checkpoint]:
    rng = torch.Generator().manual_seed(0)
    opened = []
    for i in range(count):
        state = {n: torch.randn(shape, generator=rng).to(dtype) for n, shape in SHAPES.items()}
        state["steps"] = torch.arange(3) + i
        opened.append(open_checkpoint(save(state, folder / f"{i}.safetensors")))
    return opened


def moved(seed: int) -> Alignment:
    symmetry = Symmetry(SPEC, SHAPES)
    g = symmetry.random(torch.Generator().manual_seed(seed))
    return Alignment(symmetry, g, "planted", 0.0, 1.0, 1.0)


def still() -> Alignment:
    symmetry = Symmetry(SPEC, SHAPES)
    return Alignment(symmetry, symmetry.identity(), "none", 0.0, 1.0, 1.0)


def expected(inputs: list[Checkpoint], alignments: list[Alignment], combine: object) -> dict[str, Tensor]:
    """Whole tensors in memory, one after another."""
    made = {}
    for name in SHAPES:
        others = [one.act(name, w[name]) for one, w in zip(alignments, inputs[1:], strict=True)]
        made[name] = combine(name, [inputs[0][name], *others])  # type: ignore[operator]
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("threads", "elements"), [(1, 1000), (3, 200), (2, 1 << 19)])
def test_pieces_are_the_whole_to_the_bit(
    dtype: torch.dtype, threads: int, elements: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "ELEMENTS", elements)
    inputs = networks(tmp_path, dtype)
    for i, (count, alignments, combine) in enumerate((
        (2, [still()], WeightedMean((0.7, 0.3))),
        (2, [moved(1)], WeightedMean((0.4, 0.6))),
        (3, [moved(1), moved(2)], WeightedMean((0.5, 0.2, 0.3))),
        (3, [moved(1), moved(2)], TaskArithmetic((1.0, -0.5), (1.0, 0.7))),
    )):  # fmt: skip
        stream = Stream(
            inputs[:count], alignments, inputs[0], combine, elementwise=True, threads=threads
        )  # fmt: skip
        out = tmp_path / f"out-{i}"
        stream.write(out, {}, lambda n=count: HASHES[:n], Settings("none"), ())
        written = open_checkpoint(out)
        for name, w in expected(inputs[:count], alignments, combine).items():
            assert written[name].dtype == w.dtype
            assert written[name].equal(w), name


def test_what_aligns_alone_does_not_read_the_reference(tmp_path: Path) -> None:
    a, b, _ = networks(tmp_path, torch.bfloat16)
    alignment = moved(3)
    stream = Stream([a, b], [alignment], b, None, moves_layout=True)
    (tmp_path / "0.safetensors").unlink()
    for name in SHAPES:
        assert stream.tensor(name).equal(alignment.act(name, b[name]))
    rows = stream._pieces("up")
    assert torch.cat([rows.tensors(*span)[0] for span in rows.spans()]).equal(stream.tensor("up"))


def test_distances_are_measured_while_writing(tmp_path: Path) -> None:
    a, b, _ = networks(tmp_path, torch.float32)
    stream = Stream([a, b], [still()], a, WeightedMean((0.5, 0.5)), elementwise=True, measures=True)
    stream.write(tmp_path / "o", {}, lambda: HASHES[:2], Settings("none"), ())
    (one,) = stream.measured(stream.alignments)
    apart = sum(float((a[n].double() - b[n].double()).square().sum()) for n in SHAPES if n != "steps")
    assert one.distances == pytest.approx((apart**0.5,) * 2)
