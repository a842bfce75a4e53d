"""Ctrl-C pressed again while the first one is ending the work."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from deepalign_cli.cli import interrupts
from deepalign_cli.cli.interrupts import hear_once
from tests.operations.making import save


@pytest.fixture
def pythons_own() -> Iterator[None]:
    """The way of a program that was started at a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("pythons_own")
def test_the_first_is_heard_and_those_soon_after_it_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: now)
    put_back = hear_once()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    for later in (5.0, 14.9):
        now = later
        signal.raise_signal(signal.SIGINT)
    now = 15.1
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    put_back()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_takes_no_interrupts_goes_on_to_take_none() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        hear_once()()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


PRESSED_OFTEN = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from deepalign_cli.checkpoint import early_sync
begun, write = threading.Event(), early_sync.pwrite_all

def press():
    begun.wait()
    for _ in range(40):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

def slowly(*what):
    begun.set()
    time.sleep(0.2)
    write(*what)

early_sync.pwrite_all = slowly
threading.Thread(target=press, daemon=True).start()
from deepalign_cli.cli.main import main
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("out", ["merged.safetensors", "merged/"])
def test_pressed_again_and_again_it_exits_130_with_nothing_left(out: str, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        rng = torch.Generator().manual_seed(seed)
        save({f"{i}.weight": torch.randn(256, 256, generator=rng) for i in range(8)}, tmp_path / f"{name}.pt")
    line = ["merge", "a.pt", "b.pt", "-m", "none", "--threads", "3", "-o", out]
    done = subprocess.run(
        [sys.executable, "-c", PRESSED_OFTEN, *line], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == "error: Interrupted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "b.pt"]
