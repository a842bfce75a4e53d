"""A pseudo-terminal of some width, for what is shown on one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[2]


def on_a_terminal(script: str, columns: int) -> str:
    """What a Python script shows there, without colours."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    argv = [sys.executable, "-c", script]
    process = subprocess.Popen(
        argv, stdout=follower, stderr=follower, stdin=follower, cwd=ROOT, env=environment
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            read = os.read(leader, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(leader)
    assert process.wait() == 0, shown.decode()
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).replace("\r\n", "\n")
