"""Draw the pictures of the documentation again, with the tool, from files that come with it.

    python docs/make_images.py [--out docs/images]

The networks of `deepalign demo` and those that `examples/own_model/train.py` trains in some seconds; nothing
is fetched. Needs the extra `plot`.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deepalign_cli.cli.main import main as deepalign

ROOT = Path(__file__).parents[1]
PICTURES = {
    "demo.png": "deepalign demo --plot",
    "curve.svg": "deepalign barrier a.safetensors b.safetensors --data digits.safetensors "
    "-m weights -m activations -m deepalign --plot",
    "landscape.svg": "deepalign landscape a.safetensors b.safetensors --data digits.safetensors -o",
    "repair.svg": "deepalign barrier a.pt b.pt --spec net.toml --model net.py:make --data data.npz "
    "--repair --plot",
}


def prepare(folder: Path, *, train: bool = True) -> None:
    """Copy the shipped files into a folder, as the guide says, and train the two networks of own_model."""
    for file in (*(ROOT / "deepalign_cli" / "demo").iterdir(), *(ROOT / "examples" / "own_model").iterdir()):
        if file.is_file():
            shutil.copy(file, folder)
    if train:
        subprocess.run([sys.executable, "train.py", "."], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def draw(folder: Path, out: Path) -> None:
    """Draw every picture from the files in `folder`.

    Raises:
        SystemExit: a command fails.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        for name, command in PICTURES.items():
            code = deepalign([*command.split()[1:], str(out / name), "--force", "-q"])
            if code:
                raise SystemExit(code)


def main() -> int:
    """Draw the pictures into a folder."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the documentation again.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="the folder")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        draw(Path(folder), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
