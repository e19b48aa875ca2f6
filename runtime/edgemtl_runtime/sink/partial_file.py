"""A file in writing: new, hidden and locked, until it is whole and takes its name without replacing another."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

try:
    import fcntl
except ImportError:  # not a POSIX system: nobody can be asked whether he still writes
    fcntl = None  # type: ignore[assignment]


Lock = Literal["ours", "another's", "unknown"]
FULL = (errno.ENOSPC, errno.EDQUOT)


def lock(descriptor: int) -> Lock:
    """Lock an open file for this process, and return whose it is now; "unknown" where nothing can be locked."""
    if fcntl is None:
        return "unknown"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "another's"
    except OSError:
        return "unknown"
    return "ours"


def fsync(descriptor: int) -> None:
    """Bring what was written onto the disk where the file system knows how; raises `OSError` where the disk refuses."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (*FULL, errno.EIO):
            raise


def is_same(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def rename_no_replace(part: Path, name: Path) -> bool:
    """Give a file its name; False where that name is taken, by whatever. The old name is gone afterwards."""
    try:
        name.hardlink_to(part)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (*FULL, errno.ENOENT, errno.EROFS, errno.EIO):
            raise
        try:  # a file system without links, as memory cards have: what is replaced is our own empty file
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            return False
        part.replace(name)
        return True
    part.unlink()
    return True


class PartialFile:
    """A binary file that libraries write and seek in.

    Each write is whole or leaves nothing, so that a full disk cuts no record in two. ``room`` is told before the file
    grows, by how many bytes; ``spare`` is asked to remove something when the disk is full, and says whether it did.
    Raises `FileExistsError` where the path is taken.
    """

    def __init__(
        self,
        path: Path,
        room: Callable[[int], None] = lambda count: None,
        spare: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path, self.room, self.spare = path, room, spare
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        self.place = self.size = 0
        self.failed: OSError | None = None
        self.name: Path | None = None
        # another process may just have taken it for one that was left behind
        if lock(self.descriptor) == "another's" or not is_same(self.descriptor, path):
            os.close(self.descriptor)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

    @property
    def closed(self) -> bool:
        """Whether it can no longer be written."""
        return self.descriptor < 0

    def write(self, data: bytes | memoryview) -> int:
        """Write all of the bytes; raises `OSError`, the same one again once it has."""
        if self.failed is not None:
            raise self.failed
        if (grown := self.place + len(data) - self.size) > 0:
            self.room(grown)
        done, view = 0, memoryview(data)
        try:
            while done < len(view):
                try:
                    done += os.write(self.descriptor, view[done:])
                except OSError as error:
                    if error.errno not in FULL or not self.spare():
                        raise
        except OSError as error:
            self.failed = error
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, max(self.place, self.size))
            raise
        self.place += done
        self.size = max(self.size, self.place)
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place; returns it."""
        self.place = os.lseek(self.descriptor, offset, whence)
        return self.place

    def truncate(self) -> None:
        """End the file here."""
        os.ftruncate(self.descriptor, self.place)
        self.size = self.place

    def tell(self) -> int:
        """Return the place of the next write."""
        return self.place

    def flush(self) -> None:
        """Nothing waits here."""

    def publish(self, names: Callable[[], Path]) -> Path:
        """Give it the first of ``names`` that is free, and return that; it can be written on."""
        name = names()
        while not rename_no_replace(self.path, name):
            name = names()
        self.path = self.name = name
        return name

    def sync(self) -> None:
        """Bring it onto the disk."""
        fsync(self.descriptor)

    def same(self) -> int:
        """Return another descriptor of the same file, to bring it onto the disk while it is written on; close it."""
        return os.dup(self.descriptor)

    def discard(self) -> None:
        """Remove it."""
        if is_same(self.descriptor, self.path):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close it; may be called twice."""
        if not self.closed:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)
