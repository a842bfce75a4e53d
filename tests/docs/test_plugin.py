"""examples/plugin is built, installed and used, as its README says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.api.builders import net
from tests.docs.test_examples import ROOT
from tests.operations.making import save

pytestmark = pytest.mark.slow

PLUGIN = ROOT / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed plugin, and three networks beside it."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True)
    for seed, name in enumerate("abc"):
        save(net(seed), folder / f"{name}.pt")
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Another process, for which what is in the folder's `site` is installed."""
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def deepalign(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "-m", "deepalign_cli", *words)


def test_it_is_listed_and_loads_no_torch(installed: Path) -> None:
    told = json.loads(deepalign(installed, "methods", "--json").stdout)
    assert "notes" not in told
    row = told["methods"][-1]
    assert (row["name"], row["data"], [option["option"] for option in row["options"]]) == (
        "norms", "none", ["--order"],
    )  # fmt: skip
    assert told["combiners"][-1]["name"] == "median"
    probe = "import sys, deepalign_cli.cli.main as m; m.main(['--help']); assert 'torch' not in sys.modules"
    assert run(installed, "-c", probe).returncode == 0
    told = deepalign(installed, "align", "--help").stdout
    assert "sort the units of both networks by the norm" in " ".join(told.split())
    assert "--order" in told


def test_the_lines_of_its_readme_run(installed: Path) -> None:
    lines = (PLUGIN / "README.md").read_text(encoding="utf-8").split("```bash\n")[1].split("```")[0]
    commands = [line.split("  #")[0].split() for line in lines.splitlines() if line.startswith("deepalign ")]
    assert [words[1] for words in commands] == ["methods", "align", "merge"]
    script = f"from deepalign_cli.cli.main import main; print([main(c[1:]) for c in {commands}])"
    done = run(installed, "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[0, 0, 0]\n"), done.stderr

    b, aligned = net(1).state_dict(), load_file(installed / "b-aligned.safetensors")
    a, merged = net(0).state_dict(), load_file(installed / "merged.safetensors")
    for name, w in b.items():  # the same numbers: units moved and nothing else
        assert torch.equal(aligned[name].flatten().sort().values, w.flatten().sort().values)
        assert merged[name].shape == w.shape
    for layer, after in (("fc1", "fc2"), ("fc2", "fc3")):  # the largest unit where the largest is, ...
        orders = [
            torch.cat([n[f"{layer}.weight"], n[f"{layer}.bias"][:, None], n[f"{after}.weight"].T], 1)
            .double().abs().sum(1).argsort()
            for n in (a, aligned)
        ]  # fmt: skip
        assert torch.equal(*orders)


def test_it_is_used_from_python(installed: Path) -> None:
    told = re.search(r"From Python they are `(.*?)` and `(.*?)`", (PLUGIN / "README.md").read_text())
    assert told is not None
    script = (
        "import torch, deepalign_cli as da\na, b, c = (dict(da.open(f'{x}.pt')) for x in 'abc')\n"
        f"print({told[1]}.method)\nprint({told[2]})\n"
        "planted = da.align(a, a, method='none').symmetry\n"
        "g = planted.random(torch.Generator().manual_seed(0))\n"
        "print(da.align(a, planted.apply(g, a), method='norms').distance_after)\n"
        "m = da.merge([a, a, b], combine='median', method='none')\n"
        "print(all(torch.equal(m[k], a[k]) for k in a))\n"
        "m = da.merge([a, b], combine='median', method='none')\n"
        "print(all(torch.allclose(m[k], (a[k] + b[k]) / 2) for k in a))\n"
    )
    done = run(installed, "-c", script)
    assert done.returncode == 0, done.stderr
    numbers = sum(w.numel() for w in net(0).parameters())
    merged = f"Merged(3 networks; 6 tensors, {numbers} numbers)"
    assert done.stdout.splitlines() == ["norms", merged, "0.0", "True", "True"]


def test_a_broken_plugin_is_named_and_does_no_harm(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed / "site", tmp_path / "site")
    (tmp_path / "site" / "deepalign_norms" / "rows.py").write_text("import nothing_of_this_name")
    shutil.copy(installed / "a.pt", tmp_path)

    done = deepalign(tmp_path, "methods")

    assert done.returncode == 0
    assert "note: The method 'norms' (deepalign_norms.rows:NORMS) was left out: " in done.stderr
    assert "No module named 'nothing_of_this_name'" in done.stderr
    assert "note: The combiner 'median' (deepalign_norms.rows:MEDIAN) was left out: " in done.stderr
    done = deepalign(tmp_path, "align", "a.pt", "a.pt", "-m", "norms")
    assert (done.returncode, "deepalign_norms.rows:NORMS" in done.stderr) == (2, True)
    assert deepalign(tmp_path, "verify", "a.pt", "a.pt", "--restarts", "1").returncode == 0
