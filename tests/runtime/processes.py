"""Waiting for a program, never for ever."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until a condition holds; fails with what the process printed when it has ended, or after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"not within {seconds} s: {process.communicate(timeout=10)}")
        time.sleep(0.01)
