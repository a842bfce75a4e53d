from __future__ import annotations

import math
import random

import pytest

from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs import Design, config_of
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.conv1d import Conv1d
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from deepalign_cli.models.designs.rnn import RNN
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.models.designs.transformer import Transformer
from deepalign_cli.symmetry.families import FAMILIES
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.train.draws import draw_design
from deepalign_cli.train.known import symmetry_of
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.texts import ALPHABET
from tests.symmetry.builders import seeded, shapes_of

KINDS = {
    "mlp": MLP, "cnn": CNN, "conv1d": Conv1d, "resnet": ResNet, "recurrent": RNN,
    "transformer": Transformer,
}  # fmt: skip
GREY, COLOUR, TEXT = Task("x", side=14), Task("x", side=28, grey=False), Task("x", context=16)


@pytest.mark.slow
@pytest.mark.parametrize("task", [GREY, COLOUR])
@pytest.mark.parametrize("kind", KINDS)
def test_draws_fit_the_task_and_have_a_known_symmetry(kind: str, task: Task) -> None:
    rng = random.Random(1)
    for _ in range(5):
        ranges = {} if kind == "transformer" else {"width": [8, 24]}
        design = draw_design(kind, ranges, task, rng)
        assert type(design) is KINDS[kind]
        assert math.prod(design.input_shape) == task.side**2 * (1 if task.grey else 3)
        layout = Layout(shapes_of(design.init(seeded(0))), getattr(design, "heads", None), ordered=True)
        assert next(s for match in FAMILIES if (s := match(layout)) is not None).groups()


@pytest.mark.slow
def test_decoders_are_drawn_in_every_style() -> None:
    rng, styles = random.Random(1), []
    for _ in range(8):
        design = draw_design("decoder", {"layers": [1, 1]}, TEXT, rng)
        assert isinstance(design, Decoder)
        assert design.context == TEXT.context
        assert design.tokens == len(ALPHABET)
        assert design.width not in (design.context, design.tokens)
        styles.append((design.norm, design.positions, design.feed_forward, design.queries, design.bias))
    assert {"stream"} < symmetry_of(design, design.init(seeded(0))).sizes.keys()
    assert all(len(set(choices)) == 2 for choices in zip(*styles, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_means_the_same_designs(kind: str) -> None:
    def drawn(seed: int) -> list[object]:
        rng = random.Random(seed)
        return [draw_design(kind, {}, GREY, rng) for _ in range(3)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(set(map(repr, drawn(1)))) > 1


@pytest.mark.slow
def test_ranges_are_kept_to() -> None:
    rng = random.Random(2)
    mlps = [draw_design("mlp", {"depth": [3, 4], "width": [16, 32]}, GREY, rng) for _ in range(12)]
    for design in mlps:
        assert isinstance(design, MLP)
        assert design.sizes[0] == 14 * 14
        assert len(design.sizes) - 2 in (3, 4)
        assert all(16 <= w <= 32 and w % 4 == 0 for w in design.sizes[1:-1])
    assert {len(m.sizes) for m in mlps if isinstance(m, MLP)} == {5, 6}
    for _ in range(8):
        cnn = draw_design("cnn", {"depth": [2, 3], "norm": [True], "average": [False]}, GREY, rng)
        assert isinstance(cnn, CNN)
        assert cnn.norm
        assert not cnn.average
        assert len(set(cnn.pools)) == 2
        assert max(cnn.pools) <= len(cnn.channels) - 1 <= 3
        vit = draw_design("transformer", {"heads": [3], "head_width": [8], "layers": [2, 2]}, GREY, rng)
        assert (vit.heads, vit.width, vit.layers) == (3, 24, 2) if isinstance(vit, Transformer) else False


@pytest.mark.slow
def test_stages_of_one_width_are_told_apart() -> None:
    rng = random.Random(3)
    for _ in range(8):
        design = draw_design("resnet", {"width": [8, 8], "stages": [2, 3]}, GREY, rng)
        assert isinstance(design, ResNet)
        assert design.widths[0] != design.widths[-1]


def test_streams_are_told_from_tokens_pixels_and_classes() -> None:
    rng = random.Random(3)

    def width(heads: int, head: int, task: Task) -> int:
        ranges = {"heads": [heads], "head_width": [head], "layers": [1, 1]}
        design = draw_design("transformer", ranges, task, rng)
        assert isinstance(design, Transformer)
        assert design.width % design.heads == 0
        return design.width

    assert width(2, 8, GREY) == 16
    assert width(2, 8, COLOUR) == 24  # 16 tokens
    assert width(7, 7, GREY) == 77  # 49 pixels a patch
    assert width(2, 5, GREY) == 18  # 10 classes


@pytest.mark.parametrize(
    ("kind", "ranges", "options"),
    [
        ("cnn", {"activation": ["gelu"]}, {"activation": "gelu"}),
        ("cnn", {"separable": [True], "norm": [True]}, {"separable": True}),
        ("resnet", {"squeeze": [4], "activation": ["silu"]}, {"squeeze": 4, "activation": "silu"}),
        ("recurrent", {"cell": ["lstm"], "layers": [3, 3]}, {"cell": "lstm", "layers": 3}),
        ("conv1d", {"kernel": [7], "norm": [True]}, {"kernel": 7, "norm": True}),
        ("transformer", {"norm": ["rms"], "bias": [False]}, {"norm": "rms", "bias": False}),
        (
            "transformer",
            {"queries": [2], "feed_forward": ["swiglu"]},
            {"queries": 2, "feed_forward": "swiglu"},
        ),
    ],
)
def test_what_is_asked_for_is_drawn(kind: str, ranges: dict[str, object], options: dict[str, object]) -> None:
    width = {"layers": [1, 1]} if kind == "transformer" else {"width": [8, 16]}
    design = draw_design(kind, {**width, **ranges}, COLOUR, random.Random(1))
    assert config_of(design).items() >= options.items()


@pytest.mark.parametrize("kind", ["cnn", "resnet", "transformer"])
def test_entries_that_came_later_leave_what_is_drawn_without_them(kind: str) -> None:
    entry, usual = ("norm", "layer") if kind == "transformer" else ("activation", "relu")
    rng, bare, asked = random.Random(1), random.Random(1), {entry: [usual]}
    assert draw_design(kind, asked, GREY, rng) == draw_design(kind, {}, GREY, bare)
    assert rng.getstate() != bare.getstate()


def test_a_depthwise_convolution_on_grey_images_is_ambiguous() -> None:
    with pytest.raises(UsageError, match="cannot be used: 'conv2' may convolve each channel"):
        draw_design("cnn", {"separable": [True]}, GREY, random.Random(1))


def test_other_kinds_are_designs_as_they_are_written() -> None:
    design = draw_design("siren", {"sizes": [2, 8, 1], "w0": 10.0}, GREY, random.Random(1))
    assert design == Siren((2, 8, 1), 10.0)


@pytest.mark.parametrize(
    "design", [MLP((196, 7, 10), "tanh"), CNN((1, 4, 6), 14, pools=(1,)), ResNet((4, 8)), Siren((2, 8, 1))]
)
def test_a_design_may_be_written_out(design: Design) -> None:
    table = config_of(design)
    rng, untouched = random.Random(1), random.Random(1)
    assert draw_design(table["kind"], {"design": table}, GREY, rng) == design
    assert rng.getstate() == untouched.getstate()


@pytest.mark.parametrize(
    ("kind", "ranges", "named"),
    [
        ("oracle", {}, "no design 'oracle'"),
        ("oracle", {"design": {"kind": "oracle"}}, "no design 'oracle'"),
        ("siren", {"colour": 1}, "'colour' is not an entry"),
        ("siren", {"sizes": 3}, "sizes must be a list of numbers, not 3"),
        ("mlp", {"design": 3}, "design = 3 is not a table"),
        ("mlp", {"design": {"kind": "cnn"}}, "kind 'mlp' has a design of kind 'cnn'"),
        ("mlp", {"design": {"sizes": [196, 8, 10]}, "depth": [1, 2]}, "no range 'depth'"),
        ("mlp", {"design": {"sizes": [196, 8, 10], "depth": 2}}, "'depth' is not an entry"),
        ("mlp", {"design": {}}, "'sizes' is missing"),
        ("mlp", {"design": {"sizes": [196, -8, 10]}}, "cannot be made"),
        ("mlp", {"design": {"sizes": [196]}}, "cannot be used"),
        ("resnet", {"design": {"widths": [8, 8]}}, "cannot be used"),
        ("transformer", {"design": {"width": 10, "heads": 2, "hidden": 8}}, "either axis of 'head.weight'"),
        ("transformer", {"design": {"width": 9, "heads": 2, "hidden": 8}}, "heads do not divide"),
    ],
)
def test_unusable_designs_are_refused(kind: str, ranges: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        draw_design(kind, ranges, GREY, random.Random(1))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "ranges", "named"),
    [
        ("mlp", {"depth": 3}, "depth must be "),
        ("mlp", {"depth": [5, 2]}, "depth must be "),
        ("mlp", {"depth": [2.0, 3.0]}, "depth must be "),
        ("mlp", {"width": [8]}, "width must be "),
        ("mlp", {"width": [0, 8]}, "width must be "),
        ("mlp", {"activation": []}, "activation must be "),
        ("mlp", {"activation": "relu"}, "activation must be "),
        ("mlp", {"activation": ["relux"]}, "relux"),
        ("mlp", {"widht": [8, 16]}, "'widht'"),
        ("cnn", {"depth": [1, 1]}, "larger than population"),
        ("cnn", {"norm": [1]}, "norm must be "),
        ("resnet", {"layers": [1, 1]}, "'layers'"),
        ("transformer", {"heads": ["two"]}, "heads must be "),
        ("transformer", {"layers": [0, 0]}, "layers must be "),
        ("transformer", {"norm": ["batch"]}, "norm must be one of layer, rms, not 'batch'"),
        ("transformer", {"queries": [3]}, "queries do not divide heads"),
        ("decoder", {}, " reads text, and the task has no context"),
    ],
)
def test_unusable_ranges_are_refused(kind: str, ranges: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=f"'{kind}'.*{named}") as caught:
        draw_design(kind, ranges, GREY, random.Random(1))
    assert caught.value.hint
