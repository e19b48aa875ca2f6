"""Progress of long work on standard error."""

from __future__ import annotations

import sys

TENTHS = 10


def print_progress(work: str, done: int, total: int) -> None:
    """Show how much of some work is done: one line that is written over, or a line at every tenth into a file."""
    if sys.stderr.isatty():
        print(f"\r{work[:60]} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done * TENTHS // max(1, total) > (done - 1) * TENTHS // max(1, total):
        print(f"{work} {done}/{total}", file=sys.stderr, flush=True)
