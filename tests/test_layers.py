import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch
from importlinter import cli

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "deepalign_cli"
FOLDERS = [f.parent.relative_to(PACKAGE).parts for f in sorted(PACKAGE.rglob("__init__.py"))]


def test_imports_run_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    failed = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None, no_logo=True)

    assert not failed, capsys.readouterr().out


def _imports(file: Path) -> Iterator[tuple[str, ...]]:
    """The package's files that a file imports, at its top, inside a function or for types alone."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            below = tuple((node.module or "").split(".")[1:])
            for alias in node.names:
                whole = PACKAGE.joinpath(*below, alias.name)
                is_module = whole.with_suffix(".py").exists() or (whole / "__init__.py").exists()
                yield (*below, alias.name) if is_module else below


def _rooms(folder: tuple[str, ...]) -> dict[str, set[str]]:
    """What every file and folder inside a folder imports of the others there."""
    rooms: dict[str, set[str]] = {}
    for file in PACKAGE.joinpath(*folder).rglob("*.py"):
        place = file.relative_to(PACKAGE).with_suffix("").parts
        if place[-1] == "__init__" and len(place) == len(folder) + 1:
            continue  # the folder's own face
        inside = {
            to[len(folder)] for to in _imports(file) if len(to) > len(folder) and to[: len(folder)] == folder
        }
        rooms.setdefault(place[len(folder)], set()).update(inside)
    return {room: others - {room} for room, others in rooms.items()}


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder) or "the package")
def test_no_import_climbs_back_up_inside_a_folder(folder: tuple[str, ...]) -> None:
    assert list(TopologicalSorter(_rooms(folder)).static_order())  # raises CycleError


def test_files_of_one_name_are_one_command_or_say_the_same() -> None:
    places: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        if file.stem != "__init__":
            places.setdefault(file.stem, set()).add(file.parent.name)

    assert not {
        name: where
        for name, where in places.items()
        if len(where - {"cli", "operations"}) > 1 or (len(where) > 1 and not where <= {"cli", "operations"})
    }


def test_a_class_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(file.name)

    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_files_and_folders_stay_small() -> None:
    lines = {f.relative_to(PACKAGE): len(f.read_text().splitlines()) for f in PACKAGE.rglob("*.py")}
    folders: dict[str, int] = {}
    for file, count in lines.items():
        folders[file.parts[0]] = folders.get(file.parts[0], 0) + count

    assert max(lines.values()) <= 400
    assert max(folders.values()) <= 0.15 * sum(lines.values()), folders


def test_the_layers_contract_catches_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "layered"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").touch()
    (package / "errors.py").write_text("import layered.cli\n")
    config = (ROOT / "pyproject.toml").read_text().replace('"deepalign_cli"', '"layered"')
    (tmp_path / "pyproject.toml").write_text(config)
    monkeypatch.syspath_prepend(str(tmp_path))

    assert cli.lint_imports(config_filename=str(tmp_path / "pyproject.toml"), cache_dir=None, no_logo=True)


def test_wrong_shapes_and_types_are_caught_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepalign_cli

    (tmp_path / "shape_probe.py").write_text(
        "from __future__ import annotations\n"
        "from collections.abc import Mapping\n"
        "from dataclasses import dataclass\n"
        "from jaxtyping import Float\n"
        "from torch import Tensor\n"
        'Pair = tuple[Float[Tensor, "n"], Float[Tensor, "n"]]\n'
        'def add(a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> Float[Tensor, "n"]:\n'
        "    return a + b\n"
        "def added(pair: Pair) -> Tensor:\n"
        "    return pair[0] + pair[1]\n"
        "def doubled(number: float) -> float:\n"
        "    return number * 2\n"
        "@dataclass(frozen=True)\n"
        "class Row:\n"
        "    names: Mapping[str, int]\n"
        "    @property\n"
        "    def first(self) -> int:\n"
        "        return next(iter(self.names))\n"
    )
    monkeypatch.setattr(deepalign_cli, "__path__", [*deepalign_cli.__path__, str(tmp_path)])
    from deepalign_cli import shape_probe

    try:
        assert shape_probe.add(torch.ones(3), torch.ones(3)).shape == (3,)
        with pytest.raises(TypeError):
            shape_probe.add(torch.ones(3), torch.ones(1))  # would broadcast
        assert shape_probe.added((torch.ones(3), torch.ones(3))).shape == (3,)
        with pytest.raises(TypeError):
            shape_probe.added((torch.ones(3), torch.ones(1)))
        assert shape_probe.doubled(2) == 4  # an int is good where a float is asked for
        with pytest.raises(TypeError):
            shape_probe.doubled("2")
        with pytest.raises(TypeError):
            shape_probe.Row(["a"])
        with pytest.raises(TypeError):
            _ = shape_probe.Row({"a": 1}).first
    finally:
        del sys.modules["deepalign_cli.shape_probe"]
