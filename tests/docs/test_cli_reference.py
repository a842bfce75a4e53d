"""docs/cli.md and README.md hold the help texts, the tables and the keys of `--json` of this version."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.cli.main import main

ROOT = Path(__file__).parents[2]
A, B, DIGITS = (str(ROOT / "deepalign_cli" / "demo" / f"{name}.safetensors") for name in ("a", "b", "digits"))


@pytest.fixture(scope="module")
def make_cli() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page() -> str:
    return (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_pages_are_fresh(make_cli: ModuleType) -> None:
    for path, renew in make_cli.PAGES.items():
        text = path.read_text(encoding="utf-8")
        assert text == renew(text), "run: python docs/make_cli.py"


@pytest.mark.parametrize("width", ["20", "300"])
def test_the_terminal_does_not_matter(
    make_cli: ModuleType, width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert page() == make_cli.refreshed_reference(page())


def test_a_stale_page_and_a_missing_command_are_noticed(make_cli: ModuleType) -> None:
    assert make_cli.refreshed_reference(page().replace("--seed N", "--seed M")) == page()
    with pytest.raises(ValueError, match="has the blocks"):
        make_cli.refreshed_reference(page().replace("<!-- help: merge -->", ""))


def test_a_stale_table_and_an_unknown_one_are_noticed(make_cli: ModuleType) -> None:
    readme = make_cli.README.read_text(encoding="utf-8")
    specs = (make_cli.README.parent / "docs" / "specs.md").read_text(encoding="utf-8")

    for name in METHODS:
        assert make_cli.refreshed(re.sub(rf"(?m)^\| `{name}`.*\n", "", readme)) == readme
    assert {f"<!-- table: {name} -->" for name in make_cli.tables()} <= set(
        (readme + page() + specs).splitlines()
    )
    with pytest.raises(ValueError, match="there is no table people"):
        make_cli.refreshed("<!-- table: people -->\n")


@pytest.mark.parametrize("change", ["", "| `weights` |"])
def test_check_exits_with_1_where_a_table_is_stale(
    make_cli: ModuleType, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "README.md"
    text = make_cli.README.read_text(encoding="utf-8")
    copy.write_text(text.replace("| `weights` |", "| `waits` |") if change else text, encoding="utf-8")
    monkeypatch.setattr(make_cli, "PAGES", {copy: make_cli.refreshed})

    for words, code in ((["--check"], int(bool(change))), ([], 0), (["--check"], 0)):
        monkeypatch.setattr("sys.argv", ["make_cli.py", *words])
        assert make_cli.main() == code
    assert copy.read_text(encoding="utf-8") == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["demo"],
        ["inspect", A, "--spec"],
        ["align", A, B, "--refine", "none", "-o", "o"],
        ["align", A, B, "c.safetensors", "-m", "none", "-o", "."],
        ["merge", A, B, "--refine", "none", "-o", "o.safetensors"],
        ["merge", A, A, A, "-m", "weights", "-o", "o.safetensors"],
        ["barrier", A, B],
        ["barrier", A, A, B, "--data", DIGITS, "--points", "3", "--limit", "20", "-m", "weights"],
        ["landscape", A, B, "--data", DIGITS, "--points", "3", "--limit", "20"],
        ["verify", A, B, "--restarts", "1"],
        ["verify", A, A, "--model", "net.py:make"],
    ],
    ids=" ".join,
)
def test_every_json_key_is_documented(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(A, "c.safetensors")
    sizes = "(784, 128), (128, 128), (128, 128), (128, 10)"
    Path("net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        for i, size in enumerate([{sizes}], 1):\n"
        "            self.add_module(f'fc{i}', nn.Linear(*size))\n"
        "    def forward(self, x):\n"
        "        return self.fc4(self.fc3(self.fc2(self.fc1(x).relu()).relu()).relu())\n"
        "make = Net\n"
    )

    main([*words, "--json"])

    keys = set(json.loads(capsys.readouterr().out))
    prediction = {"network", "sketches", "refine", "kept", "why"}  # of the method deepalign
    optional = {
        "alpha",
        "weights",
        "spec",
        "notes",
        "outputs",
        "pairs",
        "weights_only",
        "unread",
        "rank",
        "relative_error",
        "worst",
        "modules",
        "own",
        "vocabulary",
        "autoencoder",  # these two of --combine latent
        "reconstruction",
    } | prediction
    assert keys <= documented("JSON") | documented(words[0])
    assert documented(words[0]) - optional <= keys


def documented(section: str) -> set[str]:
    """The keys in the bullets of a section, before each colon."""
    text = page().split(f"\n## {section}\n")[1].split("\n## ")[0]
    bullets = re.findall(r"^- ((?:`\w+`(?:, )?)+):", text, re.MULTILINE)
    return {key for bullet in bullets for key in re.findall(r"`(\w+)`", bullet)}
