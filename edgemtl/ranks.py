"""The rank of this process among those that a launcher such as `torchrun` started; known without importing torch.

`torchrun` sets all of `LAUNCHER` for each process that it starts. Clusters set some of them in every container, for
whatever runs there: that is no launcher, and a process that believed them would wait for others for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""The environment of a process that is one of several."""
NUMBERS = LAUNCHER[:3]
_single: ContextVar[bool] = ContextVar("single", default=False)


def is_launched() -> bool:
    """Whether this process is one of several that a launcher started to train one network."""
    return not _single.get() and all(os.environ.get(name) for name in LAUNCHER) and all(map(_is_number, NUMBERS))


def world_size() -> int:
    """Return the number of processes that train one network."""
    return int(os.environ["WORLD_SIZE"]) if is_launched() else 1


def rank() -> int:
    """Return the rank of this process, from 0."""
    return int(os.environ["RANK"]) if is_launched() else 0


def local_rank() -> int:
    """Return the rank of this process on its machine, from 0."""
    return int(os.environ["LOCAL_RANK"]) if is_launched() else 0


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return rank() == 0


@contextmanager
def single_process() -> Iterator[None]:
    """Count this process as the only one within the block, whatever started it."""
    token = _single.set(True)
    try:
        yield
    finally:
        _single.reset(token)


def ignored_environment() -> str:
    """Return a line about a WORLD_SIZE of several that no launcher set, nothing where there is none."""
    size = os.environ.get("WORLD_SIZE", "")
    if size in ("", "1") or is_launched() or _single.get():
        return ""
    missing = [name for name in LAUNCHER if not os.environ.get(name)]
    reason = f"{', '.join(missing)} is not set" if missing else "RANK, WORLD_SIZE or LOCAL_RANK is no number"
    return (
        f"WORLD_SIZE={size} without a launcher ({reason}): this process trains alone; "
        "several train together by `torchrun -m edgemtl train`"
    )


def _is_number(name: str) -> bool:
    return os.environ[name].isascii() and os.environ[name].isdigit()
