"""The few calls to the system that writing aside stands on: exclusive files, exchange, renames that replace nothing."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV, errno.EPERM)
_LONGEST = 180
"""Bytes of a name that leave room for what is added to it: file systems end at 255."""


def sibling(path: Path, ending: str) -> Path:
    """Return the hidden name beside ``path`` that ends so; a name that is too long is told by its hash."""
    name = path.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return path.with_name(f".{name}.{ending}")


def token() -> str:
    """Return what nobody can foretell, for a temporary name."""
    return secrets.token_hex(8)


def create(file: Path, mode: int) -> int:
    """Return the descriptor of a new file, open for writing; raises FileExistsError where anything is there."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it: one call may take a part only."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_new(file: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file that was not there, and have it on the disk."""
    descriptor = create(file, mode)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not folder or error.errno not in (errno.EINVAL, errno.EBADF):  # some file systems cannot do it for folders
            raise
    finally:
        os.close(descriptor)


def exchange(left: Path, right: Path) -> bool:
    """Let two names change places in one step; return whether the file system can."""
    return _renamed(left, right, _EXCHANGE)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file; raises FileExistsError, and changes nothing, where anything is at ``target``."""
    if _renamed(source, target, _NOREPLACE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # neither call is known to this file system: the look above has to do
        source.rename(target)
    else:
        source.unlink()


def _renamed(source: Path, target: Path, flag: int) -> bool:
    renameat2 = getattr(_libc(), "renameat2", None)
    if renameat2 is None:
        return False
    words = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag)
    if renameat2(*words) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))


def _libc() -> ctypes.CDLL | None:
    with suppress(OSError):
        return ctypes.CDLL(None, use_errno=True)
    return None
