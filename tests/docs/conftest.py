"""A folder as the guide makes it, with the two small networks of examples/own_model trained in it."""

from __future__ import annotations

import shutil

import pytest

from tests.docs.shell import Shell
from tests.docs.test_examples import ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs in the trained folder is slow: it takes ten seconds to make."""
    for item in items:
        if "shell" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in that folder."""
    folder = tmp_path_factory.mktemp("try")
    for source in (ROOT / "deepalign_cli" / "demo", ROOT / "examples" / "own_model"):
        for file in source.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
    made = Shell(folder)
    made.run("python train.py .")
    return made
