from __future__ import annotations

import math
import random

import pytest

from deepalign_cli.errors import UsageError
from deepalign_cli.evaluate.designs.cnn import CNN
from deepalign_cli.evaluate.designs.mlp import MLP
from deepalign_cli.evaluate.designs.resnet import ResNet
from deepalign_cli.evaluate.designs.siren import Siren
from deepalign_cli.evaluate.designs.transformer import Transformer
from deepalign_cli.symmetry.families import FAMILIES
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.train.draws import draw_design
from deepalign_cli.train.tasks import Task
from tests.symmetry.builders import seeded, shapes_of

KINDS = {"mlp": MLP, "cnn": CNN, "resnet": ResNet, "transformer": Transformer}
GREY, COLOUR = Task("x", side=14), Task("x", side=28, grey=False)


CASES = [(kind, task) for kind in KINDS for task in (GREY, COLOUR) if (kind, task) != ("transformer", COLOUR)]


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_draws_fit_the_task_and_have_a_known_symmetry(kind: str, task: Task) -> None:
    rng = random.Random(1)
    for _ in range(12):
        ranges = {} if kind == "transformer" else {"width": [8, 24]}
        design = draw_design(kind, ranges, task, rng)
        assert type(design) is KINDS[kind]
        assert math.prod(design.input_shape) == task.side**2 * (1 if task.grey else 3)
        layout = Layout(shapes_of(design.init(seeded(0))), getattr(design, "heads", None), ordered=True)
        assert next(s for match in FAMILIES if (s := match(layout)) is not None).groups()


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_means_the_same_designs(kind: str) -> None:
    def drawn(seed: int) -> list[object]:
        rng = random.Random(seed)
        return [draw_design(kind, {}, GREY, rng) for _ in range(5)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(set(map(repr, drawn(1)))) > 1


def test_ranges_are_kept_to() -> None:
    rng = random.Random(2)
    mlps = [draw_design("mlp", {"depth": [3, 4], "width": [16, 32]}, GREY, rng) for _ in range(30)]
    for design in mlps:
        assert isinstance(design, MLP)
        assert design.sizes[0] == 14 * 14
        assert len(design.sizes) - 2 in (3, 4)
        assert all(16 <= w <= 32 and w % 4 == 0 for w in design.sizes[1:-1])
    assert {len(m.sizes) for m in mlps if isinstance(m, MLP)} == {5, 6}
    for _ in range(30):
        cnn = draw_design("cnn", {"depth": [2, 3], "norm": [True], "average": [False]}, GREY, rng)
        assert isinstance(cnn, CNN)
        assert cnn.norm
        assert not cnn.average
        assert len(set(cnn.pools)) == 2
        assert max(cnn.pools) <= len(cnn.channels) - 1 <= 3
        vit = draw_design("transformer", {"heads": [3], "head_width": [8], "layers": [2, 2]}, GREY, rng)
        assert (vit.heads, vit.width, vit.layers) == (3, 24, 2) if isinstance(vit, Transformer) else False


def test_stages_of_one_width_are_told_apart() -> None:
    rng = random.Random(3)
    for _ in range(20):
        design = draw_design("resnet", {"width": [8, 8], "stages": [2, 3]}, GREY, rng)
        assert isinstance(design, ResNet)
        assert design.widths[0] != design.widths[-1]


def test_other_kinds_are_designs_as_they_are_written() -> None:
    design = draw_design("siren", {"sizes": [2, 8, 1], "w0": 10.0}, GREY, random.Random(1))
    assert design == Siren((2, 8, 1), 10.0)


@pytest.mark.parametrize(
    ("kind", "ranges"),
    [
        ("oracle", {}),
        ("siren", {"colour": 1}),
        ("mlp", {"depth": 3}),
        ("mlp", {"depth": [5, 2]}),
        ("mlp", {"width": [8]}),
        ("mlp", {"width": [0, 8]}),
        ("mlp", {"activation": []}),
        ("cnn", {"depth": [1, 1]}),
        ("transformer", {"heads": ["two"]}),
    ],
)
def test_unusable_ranges_are_refused(kind: str, ranges: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=kind):
        draw_design(kind, ranges, GREY, random.Random(1))
