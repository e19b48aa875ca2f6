"""An output that is being written: its place is checked, its folder made, and it is locked, before the work begins."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import EdgemtlError
from . import disk
from .inventory import INVENTORY, Inventory, discard
from .lock import Lock, flock, let_go
from .place import recover, resolve_parent


class Claim:
    """What `AtomicFolder` and `AtomicFile` share; a context manager."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.given = Path(path)
        self.path = resolve_parent(path)
        self.committed = False
        self._lock: Lock | None = None
        self._made: list[Path] = []
        self._pid = os.getpid()

    def check(self, locked: bool) -> None:
        """Raise `EdgemtlError` when this place may not be written; ``locked`` once nobody else does."""
        raise NotImplementedError

    def claim(self) -> None:
        """Lock the place, and clear away what a killed process left; raises `EdgemtlError` when that cannot be."""
        self.check(False)
        try:
            self._make_parents()
            self._lock = Lock(self.path)
            self._lock.acquire()
            recover(self.path)
        except OSError as error:
            self.release()
            raise EdgemtlError(f"{self.given}: cannot be written ({error.strerror})") from error
        except BaseException:
            self.release()
            raise
        try:
            self.check(True)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Unlock the place; folders that were made for it go where they are still empty."""
        if self._lock is not None:
            self._lock.release()
        if not self.committed:
            for folder in reversed(self._made):
                with suppress(OSError):
                    folder.rmdir()

    def _make_parents(self) -> None:
        missing = [parent for parent in self.path.parents if not parent.exists()]
        for parent in reversed(missing):
            with suppress(FileExistsError):
                parent.mkdir()
                self._made.append(parent)
                disk.sync(parent.parent)


class Part:
    """A new private folder beside ``path``, with an unfinished inventory in it that is locked while it is written."""

    def __init__(self, path: Path, kind: str, settings: dict[str, Any] | None = None) -> None:
        self.folder = disk.sibling(path, f"{disk.token()}.part")
        self.folder.mkdir(0o700)  # raises where anything is there
        self._descriptor = -1
        try:
            self._mark(Inventory(kind, settings=settings or {}))
        except BaseException:
            self.remove()
            raise

    @classmethod
    def taken_up(cls, folder: Path) -> Part:
        """Return a folder that is there, and unfinished."""
        part = cls.__new__(cls)
        part.folder = folder
        part._descriptor = os.open(folder / INVENTORY, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not flock(part._descriptor):
            os.close(part._descriptor)
        return part

    def _mark(self, inventory: Inventory) -> None:
        self._descriptor = disk.create(self.folder / INVENTORY, 0o666)
        flock(self._descriptor)
        disk.write_all(self._descriptor, inventory.encode())
        os.fsync(self._descriptor)

    def let_go(self) -> None:
        """Unlock the folder's inventory."""
        let_go(self._descriptor)
        self._descriptor = -1

    def remove(self) -> None:
        """Remove what is at the folder's name by now."""
        discard(self.folder)
        self.let_go()
