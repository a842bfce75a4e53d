"""What docs/api.md and the docstrings show is what happens."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from dataclasses import fields
from types import ModuleType

import pytest

import deepalign_cli as da
from deepalign_cli.api import functions
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from tests.docs.test_examples import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "deepalign_cli").rglob("*.py"))
    if re.search(r"^ *>>> ", file.read_text(encoding="utf-8"), re.MULTILINE)
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.slow
def test_the_page_is_true() -> None:
    example = doctest.DocTestParser().get_doctest(PAGE.replace("```\n", "\n"), {}, "api.md", "api.md", 0)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    told: list[str] = []
    runner.run(example, out=told.append)
    assert runner.tries > 25
    assert not runner.failures, "".join(told)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    found = [test for test in doctest.DocTestFinder(recurse=True).find(module) if test.examples]
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    told: list[str] = []
    for test in found:
        runner.run(test, out=told.append)
    assert found
    assert not runner.failures, "".join(told)


def test_every_function_and_its_arguments_are_on_the_page() -> None:
    for name in da.__all__:
        assert f"da.{name}" in PAGE
    for name in ("align", "merge", "transport", "barrier", "landscape", "verify"):
        (line,) = re.findall(rf"^\| `da\.{name}\((.*?)\)`", PAGE, re.MULTILINE)
        wanted = [
            p.name for p in inspect.signature(getattr(functions, name)).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        ]  # fmt: skip
        assert sorted(re.findall(r"(\w+)=,?(?! ?None)", line)) == sorted(wanted), name


def test_every_option_is_on_the_page() -> None:
    section = PAGE.split("\n## Options\n")[1].split("\n## ")[0] + "`force`"
    for field in (*fields(Settings), *fields(RunSettings)):
        if field.name not in ("method", "options", "model", "data"):
            assert f"`{field.name}`" in section, field.name
