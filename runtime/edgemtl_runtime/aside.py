"""Files and folders that are written aside and put in place whole, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .errors import EdgemtlError


def write_file(file: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file aside, then put it in place: a full disk or a kill leaves what was there."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


class FolderAside:
    """A context manager: write into ``folder``, then call `place`; without it nothing is left behind.

    What already stands at ``path`` is replaced only when it is of the same kind, told by the file ``marker`` in it.
    """

    def __init__(self, path: str | os.PathLike[str], marker: str) -> None:
        self.path = Path(path).absolute()
        self.marker = marker
        self.folder = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self) -> FolderAside:
        there = self.path
        if there.is_symlink() or there.is_file() or (there.is_dir() and not self._replaceable()):
            raise EdgemtlError(f"{there}: exists and holds something else (no {self.marker}); choose another folder")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def _replaceable(self) -> bool:
        return (self.path / self.marker).is_file() or not any(self.path.iterdir())

    def place(self) -> Path:
        """Put the folder in place; what was there is set aside first and removed after the swap."""
        old = self.path.with_name(f".{self.path.name}.{os.getpid()}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.path.exists():
            self.path.rename(old)
        try:
            self.folder.rename(self.path)
        except OSError:
            if old.exists():
                old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
