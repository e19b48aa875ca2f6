"""Staging folders: hidden and private, next to the output, on the same file system so that a rename commits them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import disk
from .inventory import INVENTORY, Inventory, discard
from .lock import flock, unlock


class StagingFolder:
    """New folder of mode 0700 next to ``path``, with an unfinished inventory that is locked while it is written.

    While it is locked, `recover` takes the folder for that of a running process. Raises FileExistsError where its name
    exists.
    """

    def __init__(self, path: Path, kind: str, settings: dict[str, Any] | None = None) -> None:
        self.folder = disk.sibling(path, f"{disk.token()}.part")
        self.folder.mkdir(0o700)
        self._descriptor = -1
        try:
            self._write_inventory(Inventory(kind, settings=settings or {}))
        except BaseException:
            self.remove()
            raise

    @classmethod
    def reopen(cls, folder: Path) -> StagingFolder:
        """Return an existing unfinished folder, locked again."""
        staging = cls.__new__(cls)
        staging.folder = folder
        staging._descriptor = os.open(folder / INVENTORY, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not flock(staging._descriptor):
            os.close(staging._descriptor)
        return staging

    def _write_inventory(self, inventory: Inventory) -> None:
        self._descriptor = disk.create(self.folder / INVENTORY, 0o666)
        flock(self._descriptor)
        disk.write_all(self._descriptor, inventory.encode())
        os.fsync(self._descriptor)

    def unlock(self) -> None:
        """Release the lock on the folder's inventory."""
        unlock(self._descriptor)
        self._descriptor = -1

    def remove(self) -> None:
        """Remove the folder that has the staging name now: after an exchange that is the replaced output."""
        discard(self.folder)
        self.unlock()
