"""One writer at a time: a lock file beside an output, held while it is written and gone afterwards."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import EdgemtlError
from . import disk

_CONTENT = re.compile(rb'\{"edgemtl": "lock", "pid": "(\d{10})"\}\n')
_HEAD = b'{"edgemtl": "lock", "pid": "'
_WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_held: set[int] = set()


class BusyError(EdgemtlError):
    """Another process is writing to the same place."""


def _left_by_the_child() -> None:
    """A forked child holds its parent's locks open: it gives them up, or they would outlive the parent."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_left_by_the_child)


def is_lock(content: bytes) -> bool:
    """Whether a file with this content is a lock of ours, or was to become one when a kill came."""
    return _CONTENT.fullmatch(content) is not None or _HEAD.startswith(content)


def flock(descriptor: int) -> bool:
    """Lock an open file without waiting; return whether it is this process's now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT:
            raise
        logging.getLogger(__name__).warning("this file system knows no locks (%s): going on without", error.strerror)
    _held.add(descriptor)
    return True


def let_go(descriptor: int) -> None:
    """Close a file that `flock` locked."""
    if descriptor in _held:  # not so in a forked child
        _held.discard(descriptor)
        os.close(descriptor)


class Lock:
    """The right to write at ``path``; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, disk.sibling(path, "lock")
        self.descriptor = -1

    def acquire(self) -> None:
        """Take the lock; raises `BusyError` with the process that has it, `EdgemtlError` when the file is not ours."""
        for _ in range(1000):  # another process may take it, and let go of it, at any moment
            if self._make() or self._take():
                return
        raise BusyError(f"{self.path}: others write there without an end; choose another place")

    def release(self) -> None:
        """Give the lock up and remove its file."""
        if self.descriptor in _held:
            if self._still_there():
                self.file.unlink()
            let_go(self.descriptor)
        self.descriptor = -1

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _make(self) -> bool:
        """Make a file that is locked before it has its name."""
        if os.path.lexists(self.file):
            return False
        part = disk.sibling(self.path, f"{disk.token()}.part")
        descriptor = disk.create(part, 0o644)
        try:
            disk.write_all(descriptor, _content())
            if not flock(descriptor):
                raise FileNotFoundError(f"{part}: another process is clearing it away")
            disk.rename_new(part, self.file)
        except BaseException as error:
            _held.discard(descriptor)
            os.close(descriptor)
            with suppress(FileNotFoundError):
                part.unlink()
            if isinstance(error, (FileExistsError, FileNotFoundError)):  # another one was first, or cleared it away
                return False
            raise
        self.descriptor = descriptor
        return True

    def _take(self) -> bool:
        """Take over the file of a process that has ended."""
        try:
            descriptor = os.open(self.file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise EdgemtlError(f"{self.file}: is no lock of ours ({error.strerror}); move it away") from error
        taken = False
        try:
            found = os.pread(descriptor, 100, 0) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
            told = _CONTENT.fullmatch(found)
            if told is None:
                raise EdgemtlError(f"{self.file}: is no lock of ours; move it away, or choose another place")
            self.descriptor = descriptor
            if not flock(descriptor):
                who = f"process {int(told[1])}"
                raise BusyError(f"{self.path}: {who} is writing there; wait for it, or choose another place")
            taken = self._still_there()
            if taken:
                os.pwrite(descriptor, _content(), 0)  # of the same length: a kill leaves one or the other
        finally:
            if not taken:
                self.descriptor = -1
                _held.discard(descriptor)
                os.close(descriptor)
        return taken

    def _still_there(self) -> bool:
        """Whether the file that is open has its name still: who held it before may have removed that."""
        try:
            named, open_ = os.lstat(self.file), os.fstat(self.descriptor)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (open_.st_dev, open_.st_ino)


def _content() -> bytes:
    return b'{"edgemtl": "lock", "pid": "%010d"}\n' % os.getpid()
