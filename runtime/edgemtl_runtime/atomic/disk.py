"""System calls for atomic writes: exclusive creation, fsync, and renameat2 (exchange, no replacement)."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV, errno.EPERM)
_MAX_NAME_BYTES = 180
"""Length of a name to which a suffix can be added: file systems end at 255 bytes."""


def sibling(path: Path, ending: str) -> Path:
    """Return the hidden path ``.NAME.ending`` next to ``path``; a name that is too long is replaced by its hash."""
    name = path.name
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return path.with_name(f".{name}.{ending}")


def token() -> str:
    """Return 16 unpredictable hexadecimal digits, for a temporary name."""
    return secrets.token_hex(8)


def create(file: Path, mode: int) -> int:
    """Open a new file for reading and writing; raises FileExistsError where the path exists."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes: one system call may write fewer."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_new(file: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a new file and flush it to the disk."""
    descriptor = create(file, mode)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file, or the directory entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not is_folder or error.errno not in (
            errno.EINVAL,
            errno.EBADF,
        ):  # some file systems cannot do it for folders
            raise
    finally:
        os.close(descriptor)


def exchange(left: Path, right: Path) -> bool:
    """Exchange two paths in one step; False where the file system cannot."""
    return _renamed(left, right, _EXCHANGE)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file; raises FileExistsError, and changes nothing, where ``target`` exists."""
    if _renamed(source, target, _NOREPLACE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # this file system supports neither call: the check above has to do
        source.rename(target)
    else:
        source.unlink()


def _renamed(source: Path, target: Path, flag: int) -> bool:
    """Call renameat2; False where the C library or the file system does not support it."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))
