"""Ctrl-C, pressed once or several times: the first ends the work, and those soon after it change nothing.

The first raises KeyboardInterrupt. What it passes through then waits for threads that write and removes what
is half done; another one there would leave files behind, and be a traceback where nobody catches it. Who
presses again after a while, since the end takes too long, is heard again.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

SOON = 10.0  # seconds


def hear_once() -> Callable[[], None]:
    """Hear Ctrl-C so from now on, where Python's own way is in place; returns what puts that back."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as by nohup
        return lambda: None
    heard = -math.inf

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        now = time.monotonic()
        if now - heard >= SOON:
            heard = now
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, hear)
    return lambda: _put_back(hear)


def _put_back(hear: Callable[[int, FrameType | None], None]) -> None:
    if signal.getsignal(signal.SIGINT) is hear:
        signal.signal(signal.SIGINT, signal.default_int_handler)
