"""The examples run, and the commands in the README are those that the CI can find."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.combine import Job, merge_files

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "deepalign_cli" / "demo"


def merge_two(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "examples" / "merge_two.py", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_merge_two_does_what_merge_does(tmp_path: Path) -> None:
    a, b = DEMO / "a.safetensors", DEMO / "b.safetensors"

    done = merge_two(a, b, tmp_path / "library")

    assert done.returncode == 0, done.stderr
    merge_files(Job((a, b), tmp_path / "command"))
    made, wanted = open_checkpoint(tmp_path / "library"), open_checkpoint(tmp_path / "command")
    for name in wanted:
        torch.testing.assert_close(made[name], wanted[name])


def test_merge_two_reports_errors_without_a_traceback(tmp_path: Path) -> None:
    done = merge_two(tmp_path / "none", DEMO / "b.safetensors", tmp_path / "out")

    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_the_readme_holds_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    found = re.findall(r"^<!-- command: (\w+) -->\n```bash\n(.+)\n```$", readme, re.MULTILINE)

    assert [name for name, _ in found] == ["demo", "test"]
    assert all(command.startswith("python3.11 -m venv .venv && ") for _, command in found)


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
