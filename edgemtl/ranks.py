"""The rank of this process among those that `torchrun` started, read from its environment without importing torch."""

from __future__ import annotations

import os


def world_size() -> int:
    """Return the number of processes that train one network."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the rank of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process is the one that writes files, evaluates and prints."""
    return rank() == 0
