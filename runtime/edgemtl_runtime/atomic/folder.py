"""Folders, written aside and put in place whole."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import EdgemtlError
from . import disk
from .claim import Claim, Part
from .inventory import INVENTORY, Inventory, discard, is_folder, listed, read_inventory, sync_tree, untracked
from .place import ExistsError, check_folder, recover, unfinished


class AtomicFolder(Claim):
    """A context manager: write into ``folder``, then call `commit`; without it nothing is left behind.

    What stands at ``path`` is replaced only with ``overwrite``, and only when it is a finished one of the same
    ``kind`` in which nothing is changed or added. With ``keep``, what was written is kept until the folder is in
    place, for another one to go on with by ``resume``; ``settings`` is what it was made by.
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
        """The private folder to write into."""
        return self._part.folder

    def check(self, locked: bool) -> None:
        """Raise `ExistsError` when this folder may not be written."""
        check_folder(self.given, self.kind, self.overwrite, inside=locked)

    def __enter__(self) -> AtomicFolder:
        self.claim()
        try:
            self._part = self._kept() if self.keep else Part(self.path, self.kind, self.settings)
        except OSError as error:
            self.release()
            raise EdgemtlError(f"{self.given}: cannot be written ({error.strerror})") from error
        except BaseException:
            self.release()
            raise
        return self

    def _kept(self) -> Part:
        """Return what was kept, or a new folder that will be."""
        kept = unfinished(self.path)
        if os.path.lexists(kept):
            there = read_inventory(kept) if is_folder(kept) else None
            if there is None or there.kind != self.kind:
                raise ExistsError(f"{kept}: is no unfinished {self.kind}; move it away, or choose another folder")
            if self.resume:
                return Part.taken_up(kept)
            if not self.overwrite:
                raise ExistsError(
                    f"{self.given}: an unfinished {self.kind} stands here; --resume goes on with it, "
                    "--overwrite starts anew"
                )
            discard(kept)
        made = Part(self.path, self.kind, self.settings)
        made.folder.rename(kept)  # never without its inventory
        made.folder = kept
        return made

    def commit(self) -> Path:
        """Put the folder in place, and remove what was there before; return its path as it was given."""
        folder = self.folder
        self.check(True)
        mode = self._usual_mode()
        fresh = folder / f"{INVENTORY}.new"
        with suppress(FileNotFoundError):
            fresh.unlink()
        inventory = listed(folder, self.kind, self.settings)
        disk.write_new(fresh, inventory.encode())
        fresh.replace(folder / INVENTORY)
        self._part.let_go()
        sync_tree(folder)
        folder.chmod(mode)
        self._swap(folder)
        self.committed = True
        return self.given

    def _swap(self, folder: Path) -> None:
        old = read_inventory(self.path) if is_folder(self.path) else None
        if old is None:  # nothing there, or an empty folder; rename replaces nothing else
            folder.rename(self.path)
        elif disk.exchange(folder, self.path):
            self._put_back_what_is_foreign(folder, old)
        else:
            self._swap_in_two_steps(folder)
        disk.sync(self.path.parent)
        with suppress(OSError):  # the new one is in place: what cannot go is tried again by the next start
            discard(folder)

    def _put_back_what_is_foreign(self, old: Path, inventory: Inventory) -> None:
        name = untracked(old, inventory, hashes=False) if is_folder(old) else old.name
        if name:
            disk.exchange(old, self.path)
            raise ExistsError(f"{self.given}: {name} came in meanwhile; nothing written")

    def _swap_in_two_steps(self, folder: Path) -> None:
        """Swap where nothing can be exchanged; `recover` puts the old folder back after a kill in between."""
        old = disk.sibling(self.path, f"{disk.token()}.old")
        self.path.rename(old)
        try:
            folder.rename(self.path)
        finally:
            if not os.path.lexists(self.path):
                old.rename(self.path)
        old.rename(folder)  # from here on it is only to be removed

    def __exit__(self, *_: object) -> None:
        if os.getpid() != self._pid:  # a forked child has nothing to clear away
            return
        try:
            if self.keep and not self.committed and self._worth_keeping():
                self._part.let_go()
            else:
                self._part.remove()
            recover(self.path)
        finally:
            self._part.let_go()
            self.release()

    def _worth_keeping(self) -> bool:
        if not is_folder(self.folder):
            return False
        with os.scandir(self.folder) as entries:
            return any(entry.name != INVENTORY for entry in entries)

    def _usual_mode(self) -> int:
        """Return the mode that a new folder has here, by the user's umask and what the folder around it passes on."""
        probe = disk.sibling(self.path, f"{disk.token()}.part")
        probe.mkdir()
        try:
            return probe.stat().st_mode & 0o7777
        finally:
            probe.rmdir()
