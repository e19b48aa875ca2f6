"""Crash recovery of atomic outputs: staging folders, replaced folders and locks that a killed process left."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from . import disk
from .inventory import INVENTORY, discard, is_folder, read_inventory, untracked
from .lock import flock, is_lock, unlock


def recover(path: Path, older_s: float = 0.0) -> None:
    """Restore the replaced folder of a commit that a kill interrupted, and remove other leftovers next to ``path``.

    The caller holds the lock of ``path``; a caller without one gives ``older_s``, an age in seconds beyond which
    leftovers surely belong to no running process.
    """
    prefix = disk.sibling(path, "").name
    pattern = re.compile(re.escape(prefix) + r"[0-9a-f]{16}\.(part|old)")
    with os.scandir(path.parent) as entries:
        names = sorted(entry.name for entry in entries if pattern.fullmatch(entry.name))
    for name in names:
        leftover = path.with_name(name)
        with suppress(FileNotFoundError):
            if older_s and time.time() - os.lstat(leftover).st_mtime < older_s:
                continue
        if not is_folder(leftover):
            with suppress(FileNotFoundError):  # its writer lost the race for the lock and removed it itself
                _remove_unnamed_lock(leftover)
        elif name.endswith(".old") and not os.path.lexists(path):
            inventory = read_inventory(leftover)
            if inventory is not None and inventory.finished and not untracked(leftover, inventory):
                leftover.rename(path)
                disk.sync(path.parent)
        elif not _is_in_use(leftover):
            with suppress(OSError):  # what cannot be removed stays
                discard(leftover)


def _is_in_use(staging: Path) -> bool:
    """Whether a running process holds the lock of a staging folder's inventory."""
    try:
        descriptor = os.open(staging / INVENTORY, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    if flock(descriptor):
        unlock(descriptor)
        return False
    os.close(descriptor)
    return True


def _remove_unnamed_lock(file: Path) -> None:
    """Remove a lock file that a kill left under its temporary name."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size > 100:
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not is_lock(os.pread(descriptor, 200, 0)) or not flock(descriptor):
        os.close(descriptor)
        return
    try:
        file.unlink()
    finally:
        unlock(descriptor)
