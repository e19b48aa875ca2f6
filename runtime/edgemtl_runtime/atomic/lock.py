"""Advisory locks (flock): a lock file next to an output allows one writer at a time."""

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
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_held: set[int] = set()


class BusyError(EdgemtlError):
    """Another process holds the lock of the path."""


def _close_in_child() -> None:
    """Close inherited lock descriptors in a forked child, where they would hold the locks after the parent's end."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def is_lock(content: bytes) -> bool:
    """Whether this is the content of a lock file of ours, complete or truncated by a kill."""
    return _CONTENT.fullmatch(content) is not None or _HEAD.startswith(content)


def flock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file without waiting; False where another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        logging.getLogger(__name__).warning(
            "this file system supports no locks (%s): continuing without", error.strerror
        )
    _held.add(descriptor)
    return True


def unlock(descriptor: int) -> None:
    """Release a lock of `flock` by closing its file."""
    if descriptor in _held:  # empty in a forked child
        _held.discard(descriptor)
        os.close(descriptor)


class Lock:
    """Exclusive lock of an output path, as the file ``.NAME.lock`` with the process id; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, disk.sibling(path, "lock")
        self.descriptor = -1

    def acquire(self) -> None:
        """Take the lock; raises `BusyError` with the holder's process id, `EdgemtlError` when the file is not ours."""
        for _ in range(1000):  # another process may take and release it at any time
            if self._create() or self._take_over():
                return
        raise BusyError(f"{self.path}: other processes write there in turn; choose another path")

    def release(self) -> None:
        """Release the lock and remove its file."""
        if self.descriptor in _held:
            if self._is_current():
                self.file.unlink()
            unlock(self.descriptor)
        self.descriptor = -1

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _create(self) -> bool:
        """Create the lock file, locked before it has its name; False where another process was first."""
        if os.path.lexists(self.file):
            return False
        part = disk.sibling(self.path, f"{disk.token()}.part")
        descriptor = disk.create(part, 0o644)
        try:
            disk.write_all(descriptor, _content())
            if not flock(descriptor):
                raise FileNotFoundError(f"{part}: another process is removing it")
            disk.rename_new(part, self.file)
        except BaseException as error:
            _held.discard(descriptor)
            os.close(descriptor)
            with suppress(FileNotFoundError):
                part.unlink()
            if isinstance(error, (FileExistsError, FileNotFoundError)):  # another process was first, or removed it
                return False
            raise
        self.descriptor = descriptor
        return True

    def _take_over(self) -> bool:
        """Take over the lock file of a process that has ended; False where it was removed meanwhile."""
        try:
            descriptor = os.open(self.file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise EdgemtlError(f"{self.file}: is no lock of ours ({error.strerror}); move it away") from error
        taken = False
        try:
            content = os.pread(descriptor, 100, 0) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
            match = _CONTENT.fullmatch(content)
            if match is None:
                raise EdgemtlError(f"{self.file}: is no lock of ours; move it away, or choose another path")
            self.descriptor = descriptor
            if not flock(descriptor):
                holder = f"process {int(match[1])}"
                raise BusyError(f"{self.path}: {holder} is writing there; wait for it, or choose another path")
            taken = self._is_current()
            if taken:
                os.pwrite(descriptor, _content(), 0)  # of the same length: a kill leaves one or the other
        finally:
            if not taken:
                self.descriptor = -1
                _held.discard(descriptor)
                os.close(descriptor)
        return taken

    def _is_current(self) -> bool:
        """Whether the path still leads to the open file: its last holder may have removed it."""
        try:
            return os.path.samestat(os.lstat(self.file), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False


def _content() -> bytes:
    return b'{"edgemtl": "lock", "pid": "%010d"}\n' % os.getpid()
