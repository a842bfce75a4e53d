from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deepalign_cli.errors import DeepalignError, UsageError
from deepalign_cli.user_code import call_factory, load_attribute, value_of


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net_of_a_test.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from torch import nn\n"
        "\n"
        "@dataclass\n"
        "class Config:\n"
        "    width: int = 2\n"
        "\n"
        "def make(width=None, **more):\n"
        "    return nn.Linear(3, width or Config().width) if not more else more\n"
        "\n"
        "class Holder:\n"
        "    make = staticmethod(make)\n"
    )
    return path


def test_a_factory_in_a_file_is_run_with_its_arguments(file: Path) -> None:
    made = call_factory(f"{file}:make", {"width": "5"})
    assert isinstance(made, nn.Linear)
    assert made.out_features == 5
    assert call_factory(f"{file}:Holder.make", {"a": "1e-3", "b": "8,16", "c": "true", "d": "x"}) == {
        "a": 1e-3, "b": (8, 16), "c": True, "d": "x",
    }  # fmt: skip


def test_a_path_may_hold_colons(tmp_path: Path, file: Path) -> None:
    odd = tmp_path / "a:b.py"
    odd.write_text(file.read_text())
    assert isinstance(call_factory(f"{odd}:make", {}), nn.Linear)


def test_a_file_may_import_its_neighbours(file: Path) -> None:
    (file.parent / "neighbour_of_a_test.py").write_text("SIZE = 4\n")
    file.write_text("from neighbour_of_a_test import SIZE\ndef make():\n    return SIZE\n")
    assert call_factory(f"{file}:make", {}) == 4


def test_a_module_is_found_in_the_working_directory_or_installed(file: Path) -> None:
    package = file.parent / "package_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    file.rename(package / "inner.py")
    assert isinstance(call_factory("package_of_a_test.inner:make", {}), nn.Linear)
    assert load_attribute("torch.nn:Linear") is nn.Linear


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("nothing.py:make", "there is no file"),
        ("nothing/net:make", "there is no file"),
        ("net_of_a_test.py", "does not name a Python file"),
        (":make", "does not name a Python file"),
        ("net_of_a_test.py:", "does not name a Python file"),
        ("net_of_a_test.py:maker", "has no callable 'maker'"),
        ("net_of_a_test.py:Holder.other", r"has no callable 'Holder\.other'"),
        ("net_of_a_test.py:dataclass.__doc__", "has no callable"),
        ("no_such_module_at_all:make", "no Python module 'no_such_module_at_all'"),
        ("no_such_module_at_all.inner:make", "no Python module"),
        ("not a module:make", "no Python module"),
        ("torch.nn:Linnear", "'torch.nn' has no callable 'Linnear'"),
    ],
)
def test_what_names_no_factory(reference: str, named: str, file: Path) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        load_attribute(reference)
    assert "file.py:factory" in caught.value.hint


@pytest.mark.parametrize("problem", ["ValueError('two\\nlines')", "SystemExit(0)", "AssertionError"])
@pytest.mark.parametrize("module", [True, False])
def test_what_the_users_code_raises_is_one_line(module: bool, problem: str, file: Path) -> None:
    file.write_text(f"raise {problem}\n" if module else f"def make():\n    raise {problem}\n")
    for reference in (f"{file}:make", "net_of_a_test:make"):
        sys.modules.pop("net_of_a_test", None)
        with pytest.raises(DeepalignError, match=r"raised \w+: ") as caught:
            call_factory(reference, {})
        assert "\n" not in caught.value.message


def test_arguments_that_the_factory_does_not_take_are_told(file: Path) -> None:
    file.write_text("def make(width):\n    return width\n")
    with pytest.raises(DeepalignError, match=r"raised TypeError: .*'depth'"):
        call_factory(f"{file}:make", {"depth": "3"})


def test_ctrl_c_in_the_factory_is_ctrl_c(file: Path) -> None:
    file.write_text("def make():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        call_factory(f"{file}:make", {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-3", -3), ("1e-3", 1e-3), (" 3 ", 3), ("true", True), ("False", False), ("none", None),
        ("8,16", (8, 16)), ("(8, 16)", (8, 16)), ("[1]", [1]), ("resnet18", "resnet18"), ("'3'", "3"),
        ("", ""), ("a=b", "a=b"), ("os.system('x')", "os.system('x')"), ("{" * 500, "{" * 500),
        ("(" * 200_000, "(" * 200_000),
    ],
)  # fmt: skip
def test_words_are_read_as_what_they_are(text: str, value: object) -> None:
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


@given(st.text())
def test_no_word_raises(text: str) -> None:
    value_of(text.replace("\0", ""))
