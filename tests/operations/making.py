"""Checkpoints on disk, and `deepalign` run on them in this process."""

from __future__ import annotations

import hashlib
import io
import json
import signal
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import typer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.cli import main as cli
from deepalign_cli.network.encoders import make_encoder
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.saved import save_network
from deepalign_cli.operations.align import align_each
from deepalign_cli.operations.job import Job, Report
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.resolve import resolve_spec, shapes_of
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry
from tests import nets

Make = Callable[[], nn.Module]


@dataclass(frozen=True)
class Done:
    """What a run of the command line left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        return dict(json.loads(self.out))

    @property
    def error(self) -> dict[str, str]:
        """The error that was told as JSON on stderr."""
        told = json.loads(self.err)
        assert list(told) == ["schema", "error"]
        assert told["schema"] == 1
        return dict(told["error"])


def align_files(job: Job) -> Report:
    """The report of a pair's alignment."""
    return align_each(job, [job.output])[0]


@cache
def program() -> Any:
    """The commands, made once: that takes longer than most of what is asked of them here."""
    return typer.main.get_command(cli.build(cli.COMMANDS))


def deepalign(*args: object) -> Done:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        made = program()
        with patch.object(cli, "build"), patch.object(typer.main, "get_command", return_value=made):
            code = cli.main([str(arg) for arg in args])
    return Done(code, out.getvalue(), err.getvalue())


def interrupted(*args: object) -> Done:
    """The same where a signal interrupts it, even if this process was started so as to take none."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return deepalign(*args)
    finally:
        signal.signal(signal.SIGINT, before)


def network(kind: str, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """One of `nets.ALL` with generic values."""
    return generic(lambda: nets.ALL[kind]()[0], seed, dtype)


def generic(make: Make, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The module that `make` returns with generic values, ready to be run."""
    return nets.randomise_(make(), torch.Generator().manual_seed(seed)).to(dtype).eval()


def save(module: nn.Module | Mapping[str, Tensor], path: Path) -> Path:
    """Save a module's state dict as `path`'s suffix says."""
    state = module.state_dict() if isinstance(module, nn.Module) else dict(module)
    if path.suffix == ".safetensors":
        save_file({name: w.contiguous() for name, w in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def pair(folder: Path, kind: str = "named_mlp", dtype: torch.dtype = torch.float32) -> tuple[Path, Path]:
    """`a.pt` and `b.pt`: two networks of one architecture."""
    a, b = (save(network(kind, seed, dtype), folder / f"{n}.pt") for seed, n in enumerate("ab"))
    return a, b


def aligner(path: Path, seed: int = 0) -> Path:
    """A small aligner network that nobody has trained: it is equivariant all the same."""
    sizes = {"channels": 16, "hidden": 32, "sketch": 16, "sweeps": 2, "out": 32}
    torch.manual_seed(seed)
    save_network(path, DeepAlign(make_encoder(sizes)))
    return path


def apart(module: nn.Module, a: Path, b: Path, shape: tuple[int, ...]) -> float:
    """The largest difference of the outputs under the weights of two files, relative to the largest."""
    runs = []
    for path in (a, b):
        state = dict(open_checkpoint(path))
        module.to(next(w.dtype for w in state.values() if w.is_floating_point()))
        module.load_state_dict(state)
        inputs = torch.randn(16, *shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        with torch.no_grad():
            runs.append(module(inputs.to(next(module.parameters()).dtype)).double())
    return float((runs[0] - runs[1]).abs().max() / runs[0].abs().max())


def planted(path: Path, out: Path, activation: Activation | None = None, seed: int = 5) -> Element:
    """Write to `out` what is in `path`, moved by a random element, which is returned."""
    checkpoint = open_checkpoint(path)
    spec = resolve_spec(checkpoint, None, activation)
    symmetry = Symmetry(spec, shapes_of(checkpoint))
    element = symmetry.random(torch.Generator().manual_seed(seed))
    save(symmetry.apply(element, dict(checkpoint)), out)
    return element


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by another reader than ours."""
    return dict(load_file(path))


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, by another reader than ours."""
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def sha256(path: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, hidden ones too, with its inode and size."""
    found = (path for path in folder.rglob("*"))
    return {str(p.relative_to(folder)): (p.lstat().st_ino, p.lstat().st_size) for p in found}
