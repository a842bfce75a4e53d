"""The pages in a real browser: what plotly draws is in the document, without a network.

DEEPALIGN_TEST_BROWSER=1 makes a missing browser a failure.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deepalign_cli.plots import save_curves, save_landscape
from tests.plots.builders import LANDSCAPES, curve

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None and os.environ.get("DEEPALIGN_TEST_BROWSER") != "1", reason="there is no browser"
)


def rendered(page: Path, profile: Path) -> str:
    assert BROWSER, "DEEPALIGN_TEST_BROWSER=1, but there is neither chromium nor google-chrome"
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
        "--virtual-time-budget=8000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def lines(dom: str, colour: str) -> list[list[tuple[float, float]]]:
    """The corners of the lines drawn in a colour, in pixels, y downwards."""
    found = re.findall(rf'<path class="js-line" d="M([^"]+)" style="[^"]*stroke: rgb\({colour}\)', dom)
    return [[tuple(map(float, xy.split(","))) for xy in d.split("L")] for d in found if d.count("L") > 8]


@pytest.mark.slow
def test_the_curves_are_drawn_and_named(tmp_path: Path):
    made = [curve("none", 2.2), curve("deepalign", 0.1)]
    save_curves(tmp_path / "p.html", made, names=("<i>a</i>.pt", "b.pt"), title="Cost")
    dom = rendered(tmp_path / "p.html", tmp_path / "profile")
    (naive, _), (best, _) = lines(dom, "118, 118, 118"), lines(dom, "0, 114, 178")  # and their accuracies
    for line in (naive, best):
        assert line[0][1] > min(y for _, y in line) < line[-1][1]  # it rises between the ends
    (left, start), (right, _) = naive[0], naive[-1]
    top_x, top = min(naive, key=lambda xy: xy[1])
    assert top_x == pytest.approx((left + right) / 2, abs=2)
    assert (start - top) / (start - min(y for _, y in best)) == pytest.approx(2.21 / 0.11, rel=0.1)
    for text in (
        "naive",
        "deepalign",
        "barrier 2.2",
        "barrier 0.1",
        "A: &lt;i&gt;a&lt;/i&gt;.pt",
        "aligned B: b.pt",
    ):
        assert f">{text}<" in dom
    assert "<i>a</i>" not in dom


@pytest.mark.slow
def test_the_landscape_is_drawn(tmp_path: Path):
    save_landscape(tmp_path / "p.html", LANDSCAPES["plain"])
    dom = rendered(tmp_path / "p.html", tmp_path / "profile")
    assert dom.count('class="contourfill"') == 1
    assert "aligned B" in dom
    assert "loss (log scale) on test" in dom
