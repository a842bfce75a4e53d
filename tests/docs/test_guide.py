"""guide.md and models.md say what the tool does: their commands run and print what is shown."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.torch import save_file

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.models import chain_network, residual_network
from deepalign_cli.models.designs import DESIGNS, config_of, design_of
from tests.docs.shell import Block, Shell, assert_same, blocks_of
from tests.docs.test_examples import DEMO, ROOT

DOCS = ROOT / "docs"
GUIDE, MODELS = DOCS / "guide.md", DOCS / "models.md"
BLOCKS = [block for page in (GUIDE, MODELS) for block in blocks_of(page)]
PICTURES = ("curve.svg", "landscape.svg", "repair.svg")  # of the guide


def make_images() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_images", DOCS / "make_images.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(picture: Path) -> list[str]:
    """All that is written in a picture."""
    return ["".join(e.itertext()) for e in ElementTree.parse(picture).iter() if e.tag.endswith("}text")]


def after(page: Path, mark: str) -> list[list[str]]:
    """The rows of the table after a mark, as cells without their quotes."""
    table = page.read_text(encoding="utf-8").split(f"<!-- {mark} -->\n")[1].split("\n\n")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()[2:]]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def test_there_are_blocks() -> None:
    counted = sum(page.read_text(encoding="utf-8").count("<!-- run") for page in (GUIDE, MODELS))

    assert len(BLOCKS) == counted > 15


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}: {block.lines[-1][:70]}")
def test_the_lines_print_what_the_page_says(block: Block, shell: Shell) -> None:
    made = [shell.run(line) for line in block.lines]

    assert made[-1][0] == block.code
    assert all(code == 0 for code, _ in made[:-1])
    if block.out is not None:
        assert_same("".join(out for _, out in made), block.out, trained=block.trained)


def test_the_pictures_are_those_of_the_networks_that_are_shipped(shell: Shell) -> None:
    drawn = make_images().PICTURES
    assert set(drawn) == {"demo.png", *PICTURES}  # the README has the demo's
    lines = {name: f"{drawn[name]} {name}" for name in PICTURES}
    assert set(lines.values()) <= {line for block in BLOCKS for line in block.lines}

    for line in lines.values():
        assert shell.run(line)[0] == 0

    for name in ("curve.svg", "landscape.svg"):
        assert texts(shell.folder / name) == texts(DOCS / "images" / name), "run docs/make_images.py"
    methods = ["naive", "naive + repair", "deepalign", "deepalign + repair"]
    for folder in (shell.folder, DOCS / "images"):
        assert [t for t in texts(folder / "repair.svg") if t in methods] == methods


@pytest.mark.slow
def test_make_images_draws_into_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images()
    line = (
        "deepalign barrier a.safetensors b.safetensors --data digits.safetensors -m weights --points 3 --plot"
    )
    demo = images.PICTURES["demo.png"]
    monkeypatch.setattr(images, "PICTURES", {"one.svg": line, "demo.svg": demo})
    images.prepare(tmp_path, train=False)

    images.draw(tmp_path, tmp_path / "out")

    assert "weights" in texts(tmp_path / "out" / "one.svg")
    assert "average after alignment" in texts(tmp_path / "out" / "demo.svg")
    monkeypatch.setattr(images, "PICTURES", {"two.svg": line.replace("b.saf", "none.saf")})
    with pytest.raises(SystemExit) as raised:
        images.draw(tmp_path, tmp_path / "out")
    assert raised.value.code == 2


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_small_and_on_the_page(name: str) -> None:
    assert (DOCS / "images" / name).stat().st_size < 150_000
    assert f"(images/{name})" in GUIDE.read_text(encoding="utf-8")


def test_the_figures_in_the_text_are_those_of_the_table() -> None:
    """What the guide's prose says of the shipped networks stands in the output beside it."""
    guide = GUIDE.read_text(encoding="utf-8")
    shown = guide.split("```text\n")[1].split("```")[0]

    for figure in ("64.75 %", "99.25 %", "1.4635", "0.0029", "1.5070"):
        assert figure in shown
    assert all(said in guide for said in ("At the naive midpoint 64.75 %", "Above, 0.0029 on parents"))


def test_the_table_of_designs_is_complete() -> None:
    told: dict[str, dict[str, str]] = {}
    for kind, option, default, _ in after(MODELS, "designs"):
        told.setdefault(kind or list(told)[-1], {})[option] = default

    assert list(told) == list(DESIGNS)
    for kind, design in DESIGNS.items():
        fields = dataclasses.fields(design)  # type: ignore[arg-type]
        assert told[kind] == {f.name: _written(f.default) for f in fields}, kind


def _written(default: object) -> str:
    if default is dataclasses.MISSING:
        return "-"
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(
        default, float
    ) else str(default)  # fmt: skip


def test_the_table_of_family_options_is_complete() -> None:
    told = [name for row in after(MODELS, "family options") for name in row[0].replace("`", "").split(", ")]

    assert sorted(told) == sorted({*chain_network.CNN_OPTIONS, *residual_network.OPTIONS})


def test_the_metadata_shown_are_read_and_those_of_the_demo() -> None:
    block = MODELS.read_text(encoding="utf-8").split("<!-- metadata -->\n```json\n")[1].split("```")[0]
    shown = json.loads(block)

    design = design_of(json.loads(shown["deepalign.design"]))
    stored = open_checkpoint(DEMO / "a.safetensors").metadata
    assert config_of(design) == json.loads(stored["deepalign.design"])
    assert Preparation.from_json(shown["deepalign.preparation"]) == Preparation.from_json(
        stored["deepalign.preparation"]
    )


def test_outputs_keep_the_design(shell: Shell) -> None:
    assert shell.run("deepalign align a.safetensors b.safetensors -m weights -o kept.safetensors")[0] == 0

    made, source = (open_checkpoint(shell.folder / n).metadata for n in ("kept.safetensors", "b.safetensors"))
    for key in ("deepalign.design", "deepalign.preparation"):
        assert json.loads(made[key]) == json.loads(source[key])


def test_the_trouble_table_quotes_what_is_said(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    trouble = GUIDE.read_text(encoding="utf-8").split("## Trouble")[1]
    quoted = {
        "the names and shapes of an MLP do not tell its activation": (
            "deepalign barrier bare.safetensors bare.safetensors --data raw.npz --normalise unit"
        ),
        "-m activations needs data": "deepalign align a.safetensors b.safetensors -m activations",
        "the network does not run on an input of 16 (float32)": (
            "deepalign barrier a.safetensors b.safetensors --data data.npz"
        ),
        "holds pixels from 0 to 255, and nothing says how the networks read them": (
            "deepalign barrier bare.safetensors bare.safetensors --activation relu --data raw.npz"
        ),
    }  # fmt: skip

    save_file(dict(open_checkpoint(DEMO / "a.safetensors").items()), shell.folder / "bare.safetensors")
    digits = open_checkpoint(DEMO / "digits.safetensors")
    np.savez(shell.folder / "raw.npz", images=digits["images"].numpy(), labels=digits["labels"].numpy())
    for sentence, line in quoted.items():
        code, _ = shell.run(line)
        assert code in (2, 3), line
        assert sentence in capsys.readouterr().err
        assert sentence in trouble
