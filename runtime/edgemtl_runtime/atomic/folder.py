"""Atomic folders: written as a staging folder, then renamed, or exchanged with the folder that they replace."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import disk
from .checks import check_folder
from .inventory import INVENTORY, Inventory, discard, inventory_of, is_folder, read_inventory, sync_tree, untracked
from .output import AtomicOutput
from .paths import ExistsError, unfinished
from .recovery import recover
from .staging import StagingFolder


class AtomicFolder(AtomicOutput):
    """Context manager: write into ``folder``, then call `commit`; without a commit nothing is left.

    An existing folder is replaced only with ``overwrite``, and only when it is a finished one of the same ``kind`` in
    which no file was changed or added. With ``keep`` the staging folder of an interrupted run is kept as
    ``.NAME.unfinished``, and ``resume`` continues it; ``settings`` are stored in the inventory for the comparison.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: str,
        overwrite: bool = False,
        *,
        settings: dict[str, Any] | None = None,
        keep: bool = False,
        resume: bool = False,
    ) -> None:
        super().__init__(path)
        self.kind, self.overwrite, self.keep, self.resume = kind, overwrite, keep, resume
        self.settings = settings or {}

    @property
    def folder(self) -> Path:
        """The private staging folder to write into."""
        return self._staging.folder

    def check(self, locked: bool) -> None:
        """Raise `ExistsError` when this folder may not be written."""
        check_folder(self.given, self.kind, self.overwrite, inside=locked)

    def __enter__(self) -> AtomicFolder:
        self.acquire()
        with self._released_on_error():
            self._staging = self._kept() if self.keep else StagingFolder(self.path, self.kind, self.settings)
        return self

    def _kept(self) -> StagingFolder:
        """Return the unfinished folder to resume, or a new one under that name."""
        kept = unfinished(self.path)
        if os.path.lexists(kept):
            inventory = read_inventory(kept) if is_folder(kept) else None
            if inventory is None or inventory.kind != self.kind:
                raise ExistsError(f"{kept}: is no unfinished {self.kind}; move it away, or choose another folder")
            if self.resume:
                return StagingFolder.reopen(kept)
            if not self.overwrite:
                raise ExistsError(
                    f"{self.given}: an unfinished {self.kind} stands here; --resume goes on with it, "
                    "--overwrite starts again"
                )
            discard(kept)
        staging = StagingFolder(self.path, self.kind, self.settings)
        staging.folder.rename(kept)  # only now, so that it never lacks its inventory
        staging.folder = kept
        return staging

    def commit(self) -> Path:
        """Finish the inventory, flush, and rename the folder to its path; return the path as it was given."""
        folder = self.folder
        self.check(locked=True)
        mode = self._default_mode()
        finished = folder / f"{INVENTORY}.new"
        with suppress(FileNotFoundError):
            finished.unlink()
        disk.write_new(finished, inventory_of(folder, self.kind, self.settings).encode())
        finished.replace(folder / INVENTORY)
        self._staging.unlock()
        sync_tree(folder)
        folder.chmod(mode)
        self._swap(folder)
        self.committed = True
        return self.given

    def _swap(self, folder: Path) -> None:
        old = read_inventory(self.path) if is_folder(self.path) else None
        if old is None:  # no folder, or an empty one; rename replaces nothing else
            folder.rename(self.path)
        elif disk.exchange(folder, self.path):
            self._exchange_back_if_changed(folder, old)
        else:
            self._swap_in_two_steps(folder)
        disk.sync(self.path.parent)
        with suppress(OSError):  # committed: what cannot be removed now is tried again by the next `recover`
            discard(folder)

    def _exchange_back_if_changed(self, old: Path, inventory: Inventory) -> None:
        name = untracked(old, inventory, hashes=False) if is_folder(old) else old.name
        if name:
            disk.exchange(old, self.path)
            raise ExistsError(f"{self.given}: {name} came in meanwhile; nothing written")

    def _swap_in_two_steps(self, folder: Path) -> None:
        """Swap where the file system has no exchange; after a kill in between `recover` restores the old folder."""
        old = disk.sibling(self.path, f"{disk.token()}.old")
        self.path.rename(old)
        try:
            folder.rename(self.path)
        finally:
            if not os.path.lexists(self.path):
                old.rename(self.path)
        old.rename(folder)  # from now on it is only to be removed

    def __exit__(self, *_: object) -> None:
        if os.getpid() != self._pid:  # a forked child must not clean up for its parent
            return
        try:
            if self.keep and not self.committed and self._has_content():
                self._staging.unlock()
            else:
                self._staging.remove()
            recover(self.path)
        finally:
            self._staging.unlock()
            self.release()

    def _has_content(self) -> bool:
        if not is_folder(self.folder):
            return False
        with os.scandir(self.folder) as entries:
            return any(entry.name != INVENTORY for entry in entries)

    def _default_mode(self) -> int:
        """Return the mode that mkdir gives here, from the umask and what the parent folder passes on."""
        probe = disk.sibling(self.path, f"{disk.token()}.part")
        probe.mkdir()
        try:
            return probe.stat().st_mode & 0o7777
        finally:
            probe.rmdir()
