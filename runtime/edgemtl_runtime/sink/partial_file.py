"""Partial files: hidden and locked while they are written, then renamed without replacing another file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Lock = Literal["ours", "another's", "unknown"]
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def lock(descriptor: int) -> Lock:
    """Take the advisory lock of an open file without waiting; "unknown" where the file system supports no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "another's"
    except OSError:
        return "unknown"
    return "ours"


def fsync(descriptor: int) -> None:
    """Flush a file to the disk where the file system supports it; raises `OSError` for a full or failing disk."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (*DISK_FULL, errno.EIO):
            raise


def is_same(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def rename_no_replace(source: Path, target: Path) -> bool:
    """Rename a file; False, and nothing changed, where ``target`` exists."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (*DISK_FULL, errno.ENOENT, errno.EROFS, errno.EIO):
            raise
        try:  # a file system without links, as on memory cards: what is replaced is our own empty file
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            return False
        source.replace(target)
        return True
    source.unlink()
    return True


class PartialFile:
    """Binary file, new and locked, that libraries write and seek in.

    A write is complete or leaves nothing, so that a full disk tears no record. ``make_room`` is called before the file
    grows, with the number of bytes; ``free_space`` is called when the disk is full, and returns whether it deleted
    something. Raises `FileExistsError` where the path is taken.
    """

    def __init__(
        self,
        path: Path,
        make_room: Callable[[int], None] = lambda count: None,
        free_space: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path, self.make_room, self.free_space = path, make_room, free_space
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self.offset = self.size = 0
        self.error: OSError | None = None
        self.name: Path | None = None
        # another process may just have taken it for a leftover
        if lock(self.descriptor) == "another's" or not is_same(self.descriptor, path):
            os.close(self.descriptor)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

    @property
    def closed(self) -> bool:
        """Whether it can no longer be written."""
        return self.descriptor < 0

    def write(self, data: bytes | memoryview) -> int:
        """Write all bytes; raises `OSError`, and the same error again at every later call."""
        if self.error is not None:
            raise self.error
        if (growth := self.offset + len(data) - self.size) > 0:
            self.make_room(growth)
        written, view = 0, memoryview(data)
        try:
            while written < len(view):
                try:
                    written += os.write(self.descriptor, view[written:])
                except OSError as error:
                    if error.errno not in DISK_FULL or not self.free_space():
                        raise
        except OSError as error:
            self.error = error
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, max(self.offset, self.size))
            raise
        self.offset += written
        self.size = max(self.size, self.offset)
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to another offset and return it."""
        self.offset = os.lseek(self.descriptor, offset, whence)
        return self.offset

    def truncate(self) -> None:
        """End the file at the current offset."""
        os.ftruncate(self.descriptor, self.offset)
        self.size = self.offset

    def tell(self) -> int:
        """Return the offset of the next write."""
        return self.offset

    def flush(self) -> None:
        """Do nothing: writes are unbuffered."""

    def publish(self, next_name: Callable[[], Path]) -> Path:
        """Rename it to the first of the names that is free, and return that; it stays open."""
        name = next_name()
        while not rename_no_replace(self.path, name):
            name = next_name()
        self.path = self.name = name
        return name

    def sync(self) -> None:
        """Flush it to the disk."""
        fsync(self.descriptor)

    def duplicate(self) -> int:
        """Return another descriptor of the file, to fsync while it is written; the caller closes it."""
        return os.dup(self.descriptor)

    def discard(self) -> None:
        """Close it, and remove it if it still has its path."""
        if is_same(self.descriptor, self.path):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close it; may be called twice."""
        if not self.closed:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)
