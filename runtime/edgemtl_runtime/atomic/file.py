"""Atomic files: written to a staging folder, flushed to the disk, then renamed."""

from __future__ import annotations

import os
from pathlib import Path

from . import disk
from .checks import check_file
from .output import AtomicOutput
from .paths import ExistsError
from .staging import StagingFolder


def write_file(file: Path, content: bytes, mode: int = 0o666, replace: bool = True) -> None:
    """Write a file atomically: a full disk or a kill leaves the previous one.

    A symbolic link of that name is itself replaced, never followed. Without ``replace`` an existing file raises
    FileExistsError.
    """
    staging = StagingFolder(file, "file")
    try:
        staged = staging.folder / "content"
        disk.write_new(staged, content, mode)
        if replace:
            staged.replace(file)
        else:
            disk.rename_new(staged, file)
        disk.sync(file.parent)
    finally:
        staging.remove()


class AtomicFile(AtomicOutput):
    """Context manager for a file that a user named: the path is checked and locked on entry, `write` commits it.

    An existing file is replaced only with ``overwrite``; a symbolic link or a folder never.
    """

    def __init__(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        super().__init__(path)
        self.overwrite = overwrite

    def check(self, locked: bool) -> None:
        """Raise `ExistsError` when this file may not be written."""
        check_file(self.given, self.overwrite)

    def __enter__(self) -> AtomicFile:
        self.acquire()
        return self

    def write(self, content: bytes) -> Path:
        """Write and commit the file; return its path as it was given."""
        self.check(locked=True)
        try:
            write_file(self.path, content, replace=self.overwrite)
        except FileExistsError as error:
            raise ExistsError(f"{self.given}: was made meanwhile; nothing written") from error
        self.committed = True
        return self.given

    def __exit__(self, *_: object) -> None:
        if os.getpid() == self._pid:
            self.release()
