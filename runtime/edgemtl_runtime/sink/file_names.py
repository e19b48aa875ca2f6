"""Names of a recording's files: the given one, or NAME-YYYYMMDDTHHMMSSZ-NNN.EXT; hidden partial files while written."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPEN_DESCRIPTOR = re.compile(r"/dev/(?:fd/(\d+)|(stdout|stderr))")
"""Paths of open descriptors."""


@dataclass(frozen=True)
class RecordedFile:
    """A file of a recording: the number and the time in its name, its path, size in bytes and inode."""

    number: int
    time: str
    path: Path
    size: int
    inode: int


def is_folder(given: str | Path) -> bool:
    """Whether a path names a folder: an existing one, or any that ends in a slash."""
    try:
        return str(given).endswith(("/", os.sep)) or Path(given).is_dir()
    except OSError:  # it may not be read; writing will report it
        return False


def is_stream(given: str | Path) -> bool:
    """Whether a path leads to a pipe, a device or an open descriptor, which may be a plain file that is appended to."""
    try:
        mode = Path(given).stat().st_mode
    except OSError:
        return False
    return OPEN_DESCRIPTOR.fullmatch(str(given)) is not None or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


class FileNames:
    """Names of the files that one ``--mcap``, ``--video`` or ``--jsonl`` writes, in this run and in earlier ones.

    ``given`` is a file's name, which is used where it is free, or a folder. Where files are ``dated``, in a folder, or
    where the name is taken, they are called NAME-YYYYMMDDTHHMMSSZ-NNN.EXT: UTC, and a number that rises over all of
    them, so that they stay in order even if the clock is set back.
    """

    def __init__(self, given: str | Path, suffix: str, dated: bool) -> None:
        path, in_folder = Path(given), is_folder(given)
        self.folder = path if in_folder else path.parent
        self.stem, self.suffix = ("edgemtl", suffix) if in_folder else (path.stem, path.suffix)
        self.plain = None if in_folder or dated else path
        stem = re.escape(self.stem)
        name = rf"{stem}-(\d{{8}}T\d{{6}}Z)-(\d{{3,9}})"
        self._dated = re.compile(name + re.escape(self.suffix))
        self._partial = re.compile(rf"\.(?:{stem}|{name})\.part{re.escape(self.suffix)}")

    def partial_path(self, name: Path) -> Path:
        """Return the path of a file while it is written: hidden, its suffix kept so that players open it."""
        return name.with_name(f".{name.name.removesuffix(self.suffix)}.part{self.suffix}")

    def final_path(self, partial: Path) -> Path:
        """Return the path that `partial_path` was given."""
        return partial.with_name(partial.name.removesuffix(f".part{self.suffix}")[1:] + self.suffix)

    def is_dated(self, name: Path) -> bool:
        """Whether a name has a time and a number."""
        return self._dated.fullmatch(name.name) is not None

    def free(self, first: Path | None = None) -> Iterator[Path]:
        """Yield names that are free now: ``first``, the given one, then dated ones without end."""
        for name in (first, self.plain):
            if name is not None and not os.path.lexists(name):
                yield name
        number = 1 + max((file.number for file in (*self.dated(), *self.partial())), default=0)
        while True:
            utc = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            name = self.folder / f"{self.stem}-{utc}-{number:03d}{self.suffix}"
            if not os.path.lexists(name):
                yield name
            number += 1

    def dated(self) -> list[RecordedFile]:
        """Return the finished files with dated names, oldest first."""
        return self._matches(self._dated)

    def partial(self) -> list[RecordedFile]:
        """Return the partial files, oldest first."""
        return self._matches(self._partial)

    def _matches(self, pattern: re.Pattern[str]) -> list[RecordedFile]:
        files = []
        try:
            paths = list(self.folder.iterdir())
        except OSError:  # it may not be read, or was removed: writing will report it
            return []
        for path in paths:
            if (match := pattern.fullmatch(path.name)) is None:
                continue
            try:
                status = path.lstat()
            except OSError:  # removed since
                continue
            if stat.S_ISREG(status.st_mode):
                files.append(RecordedFile(int(match[2] or 0), match[1] or "", path, status.st_size, status.st_ino))
        return sorted(files, key=lambda file: (file.number, file.time))
