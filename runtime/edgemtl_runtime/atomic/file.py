"""Files, written aside and put in place whole."""

from __future__ import annotations

import os
from pathlib import Path

from . import disk
from .claim import Claim, Part
from .place import ExistsError, check_file


def write_file(file: Path, content: bytes, mode: int = 0o666, replace: bool = True) -> None:
    """Write a file aside, then put it in place: a full disk or a kill leaves what was there.

    A link at its name is replaced itself, never followed. Without ``replace`` anything there raises FileExistsError.
    """
    part = Part(file, "file")
    try:
        inner = part.folder / "content"
        disk.write_new(inner, content, mode)
        if replace:
            inner.replace(file)
        else:
            disk.rename_new(inner, file)
        disk.sync(file.parent)
    finally:
        part.remove()


class AtomicFile(Claim):
    """A context manager for a file that a user asked for: its place is checked and locked first, `write` puts it there.

    What is there is replaced only with ``overwrite``; a link or a folder never.
    """

    def __init__(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        super().__init__(path)
        self.overwrite = overwrite

    def check(self, locked: bool) -> None:
        """Raise `ExistsError` when this file may not be written."""
        check_file(self.given, self.overwrite)

    def __enter__(self) -> AtomicFile:
        self.claim()
        return self

    def write(self, content: bytes) -> Path:
        """Put the file in place; return its path as it was given."""
        self.check(True)
        try:
            write_file(self.path, content, replace=self.overwrite)
        except FileExistsError as error:
            raise ExistsError(f"{self.given}: was made meanwhile; nothing written") from error
        self.committed = True
        return self.given

    def __exit__(self, *_: object) -> None:
        if os.getpid() == self._pid:
            self.release()
