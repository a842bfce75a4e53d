import sys
from pathlib import Path

import pytest
import torch
from importlinter import cli
from jaxtyping import TypeCheckError

ROOT = Path(__file__).parent.parent


def test_imports_run_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    failed = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None, no_logo=True)

    assert not failed, capsys.readouterr().out


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


def test_wrong_shapes_are_caught_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import deepalign_cli

    (tmp_path / "shape_probe.py").write_text(
        "from jaxtyping import Float\n"
        "from torch import Tensor\n"
        'def add(a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> Float[Tensor, "n"]:\n'
        "    return a + b\n"
    )
    monkeypatch.setattr(deepalign_cli, "__path__", [*deepalign_cli.__path__, str(tmp_path)])
    from deepalign_cli import shape_probe

    try:
        assert shape_probe.add(torch.ones(3), torch.ones(3)).shape == (3,)
        with pytest.raises(TypeCheckError):
            shape_probe.add(torch.ones(3), torch.ones(1))  # would broadcast
    finally:
        del sys.modules["deepalign_cli.shape_probe"]
